package state

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/marceloboeira/crowd/xds/route"
)

// A file is comments, with a checksum and what the routes were good with, and the routes as JSON. That is YAML, so every
// command that takes a routes file takes it too.
//
//	# the last good routes of crowd xds, sha256 HEX of what follows\n
//	# with SETTINGS\n
//	{"routes":[…]}\n
const (
	headBefore     = "# the last good routes of crowd xds, sha256 "
	headAfter      = " of what follows"
	settingsBefore = "# with "
)

func encode(good Good) ([]byte, error) {
	document, err := json.Marshal(good.Routes)
	if err != nil {
		return nil, err
	}
	if strings.ContainsAny(good.Settings, "\r\n") {
		return nil, errors.New("the settings are not one line")
	}
	body := fmt.Appendf(nil, "%s%s\n%s\n", settingsBefore, good.Settings, document)
	return append([]byte(head(body)+"\n"), body...), nil
}

func decode(text []byte) (good Good, err error) {
	first, body, _ := bytes.Cut(text, []byte("\n"))
	if string(first) != head(body) {
		return Good{}, errors.New("the file is damaged: its checksum is not that of its content")
	}
	settings, rest, _ := bytes.Cut(body, []byte("\n"))
	document, whole := bytes.CutSuffix(rest, []byte("\n"))
	var given bool
	if good.Settings, given = strings.CutPrefix(string(settings), settingsBefore); !given || !whole {
		return Good{}, errors.New("the file is none of this version of crowd's")
	}
	good.Routes, err = route.ParseJSON(document)
	return good, err
}

// head is the first line of a file with a body.
func head(body []byte) string {
	return headBefore + checksum(body) + headAfter
}

func checksum(document []byte) string {
	sum := sha256.Sum256(document)
	return hex.EncodeToString(sum[:])
}
