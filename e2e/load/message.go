package load

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"strconv"
)

// Post returns an HTTP/1.1 request to Config.Request's taste.
func Post(host, path string, body []byte) []byte {
	head := fmt.Appendf(nil, "POST %s HTTP/1.1\r\nhost: %s\r\ncontent-type: application/octet-stream\r\ncontent-length: %d\r\n\r\n", path, host, len(body))
	return append(head, body...)
}

// errNotUnderstood is wrapped by errors about answers that are no HTTP/1.1, or more of it than is parsed here.
var errNotUnderstood = errors.New("load: answer not understood")

// answer is what is read of one.
type answer struct {
	status int
	last   bool // the server closes the connection after it
}

// readAnswer reads the next answer to its end. Its length must be in content-length.
func readAnswer(r *bufio.Reader) (answer, error) {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return answer{}, readError(err)
	}
	// HTTP/1.1 200 OK
	version, rest, _ := bytes.Cut(line, []byte(" "))
	code, _, _ := bytes.Cut(bytes.TrimSpace(rest), []byte(" "))
	status, err := strconv.Atoi(string(code))
	if err != nil || string(version) != "HTTP/1.1" || status < http.StatusOK || status > 599 {
		return answer{}, fmt.Errorf("%w: it begins with %q", errNotUnderstood, line)
	}
	a, length := answer{status: status}, -1
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return answer{}, readError(err)
		}
		if line = bytes.TrimRight(line, "\r\n"); len(line) == 0 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		switch value = bytes.TrimSpace(value); {
		case is(name, "content-length"):
			if length, err = strconv.Atoi(string(value)); err != nil || length < 0 {
				return answer{}, fmt.Errorf("%w: %q", errNotUnderstood, line)
			}
		case is(name, "connection"):
			a.last = is(value, "close")
		case is(name, "transfer-encoding"):
			return answer{}, fmt.Errorf("%w: %q", errNotUnderstood, line)
		}
	}
	switch {
	case status == http.StatusNoContent || status == http.StatusNotModified:
		return a, nil
	case length < 0:
		return answer{}, fmt.Errorf("%w: no content-length", errNotUnderstood)
	}
	_, err = r.Discard(length)
	return a, err
}

func is(name []byte, word string) bool {
	return len(name) == len(word) && bytes.EqualFold(name, []byte(word))
}

// readError tells a line that does not fit from a connection that broke.
func readError(err error) error {
	if errors.Is(err, bufio.ErrBufferFull) {
		return fmt.Errorf("%w: %w", errNotUnderstood, err)
	}
	return err
}
