//go:build wasip1

package abi

//go:wasmimport env proxy_set_effective_context
func proxySetEffectiveContext(context uint32) uint32

// effective is the context in whose name host calls are made; 0: the one that the host has called. The host has a value for
// each callback that is under way, and begins it with 0.
var effective uint32

// nested begins a callback that may come within another one's host call, and returns what ends it.
func nested() (end func()) {
	outer := effective
	effective = 0
	return func() { effective = outer }
}

// Become has the host calls that follow in this callback made in the name of another context; 0 is the one that the host
// has called.
func Become(context uint32) error {
	if context == effective {
		return nil
	}
	if status := proxySetEffectiveContext(context); status != 0 {
		return &StatusError{"proxy_set_effective_context", status}
	}
	effective = context
	return nil
}

// As does something in the name of another context, then goes back to the one whose name was used before.
func As(context uint32, do func() error) error {
	before := effective
	if err := Become(context); err != nil {
		return err
	}
	err := do()
	_ = Become(before) // Envoy ends no context within a callback
	return err
}
