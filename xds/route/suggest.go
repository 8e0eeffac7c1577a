package route

import "strings"

// nearest returns the name that a misspelt word was probably meant to be: the one with the fewest edits, at
// most one for every three letters. It returns "" when none is near.
func nearest(word string, names []string) string {
	const longest = 32 // no field's name is longer
	if len(word) > longest {
		return ""
	}
	word = strings.ToLower(strings.ReplaceAll(word, "-", "_"))
	best, fewest := "", len(word)/3+1
	for _, name := range names {
		if n := edits(word, name); n < fewest {
			best, fewest = name, n
		}
	}
	return best
}

// edits returns how many bytes to insert, delete, replace or swap with their neighbour to make b of a (the
// optimal string alignment distance).
func edits(a, b string) int {
	distance := make([][]int, len(a)+1) // [i][j]: of a[:i] and b[:j]
	for i := range distance {
		distance[i] = make([]int, len(b)+1)
		for j := range distance[i] {
			if i == 0 || j == 0 {
				distance[i][j] = i + j
				continue
			}
			replaced := distance[i-1][j-1]
			if a[i-1] != b[j-1] {
				replaced++
			}
			least := min(distance[i-1][j]+1, distance[i][j-1]+1, replaced)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				least = min(least, distance[i-2][j-2]+1)
			}
			distance[i][j] = least
		}
	}
	return distance[len(a)][len(b)]
}
