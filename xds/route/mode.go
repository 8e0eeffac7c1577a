package route

import "fmt"

// Mode says who answers a request.
type Mode string

// The modes.
const (
	// ModeAbsorb: crowd answers, and nobody behind it sees the request.
	ModeAbsorb Mode = "absorb"
	// ModeMirror: the request goes on upstream, which answers, and crowd records a copy of it once the whole of it has
	// passed. A request never fails or waits for its copy: where there is no room, there is none.
	ModeMirror Mode = "mirror"
)

// MarshalText implements encoding.TextMarshaler. It fails for what UnmarshalText would refuse.
func (m Mode) MarshalText() ([]byte, error) {
	return []byte(m), new(Mode).UnmarshalText([]byte(m))
}

// UnmarshalText implements encoding.TextUnmarshaler. It leaves m as it was when it returns an error.
func (m *Mode) UnmarshalText(text []byte) error {
	switch mode := Mode(text); mode {
	case ModeAbsorb, ModeMirror:
		*m = mode
		return nil
	}
	return fmt.Errorf("%s is not a mode (allowed: absorb, mirror)", quote(string(text)))
}
