package state

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/marceloboeira/crowd/xds/route"
)

// A file is a comment with a checksum, and the routes as JSON. That is YAML, so every command that takes a routes file
// takes it too.
//
//	# the last good routes of crowd xds, sha256 HEX of the next line\n
//	{"routes":[…]}\n
const (
	headBefore = "# the last good routes of crowd xds, sha256 "
	headAfter  = " of the next line"
)

func encode(config route.Config) ([]byte, error) {
	document, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, "%s%s%s\n%s\n", headBefore, checksum(document), headAfter, document), nil
}

func decode(text []byte) (route.Config, error) {
	head, rest, _ := bytes.Cut(text, []byte("\n"))
	document, whole := bytes.CutSuffix(rest, []byte("\n"))
	if !whole || string(head) != headBefore+checksum(document)+headAfter {
		return route.Config{}, errors.New("the file is damaged: its checksum is not that of its content")
	}
	return route.ParseJSON(document)
}

func checksum(document []byte) string {
	sum := sha256.Sum256(document)
	return hex.EncodeToString(sum[:])
}
