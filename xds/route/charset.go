package route

// charset is a set of ASCII characters. Those of the language are made once: strings.Trim makes one for each call, which
// took an eighth of the time in which a large document is read and compiled.
type charset [128]bool

const alphanumerics = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

var (
	digits         = charsetOf("0123456789")
	nameChars      = charsetOf(alphanumerics + "_.-") // of routes, topics and hosts
	fieldNameChars = charsetOf(alphanumerics + "_-")
	variableChars  = charsetOf(alphanumerics + "_")
	tokenChars     = charsetOf(alphanumerics + "!#$%&'*+-.^_`|~") // RFC 9110, section 5.6.2
)

func charsetOf(characters string) *charset {
	var c charset
	for i := range len(characters) {
		c[characters[i]] = true
	}
	return &c
}

// holds reports whether all of s is in the set.
func (c *charset) holds(s string) bool {
	for i := range len(s) {
		if s[i] >= byte(len(c)) || !c[s[i]] {
			return false
		}
	}
	return true
}
