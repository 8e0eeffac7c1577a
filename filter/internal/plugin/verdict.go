package plugin

import (
	"encoding/hex"
	"hash/fnv"

	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm"
)

// Envoy tries a new configuration in a VM of its own, on the main thread, and takes it to the workers only when the plugin
// starts there: an update that is refused there is rejected as a whole, and the filter goes on everywhere as it was. In
// a worker a plugin must not refuse, as every request of the listener would get an error; nor does it help where there is
// nothing to go on with.
//
// VMs cannot tell which of the two they are. They do share data, as long as one of the VM id exists: the names of
// filters that have had a valid configuration, and the invalid ones that were taken before that. What has been taken once
// is never refused: it comes to workers, and Envoy, which remembers what it has tried, may bring it back untried.

// noteValid notes that the filter of this name has had a valid configuration.
func noteValid(filter string) {
	if err := proxywasm.SetSharedData(validKey(filter), nil, 0); err != nil {
		proxywasm.LogErrorf("crowd: an invalid configuration will not be refused: %v", err)
	}
}

// takeInvalid decides about an invalid configuration: it is taken, and passes everything, unless the filter has had a valid
// one and this one was never taken.
func takeInvalid(filter string, configuration []byte) (taken bool) {
	hash := fnv.New128a()
	_, _ = hash.Write(configuration) // never fails
	key := "crowd.taken." + hex.EncodeToString(hash.Sum(nil))
	if shared(validKey(filter)) && !shared(key) {
		return false
	}
	if err := proxywasm.SetSharedData(key, nil, 0); err != nil {
		proxywasm.LogErrorf("crowd: an invalid configuration may be refused where it must not be: %v", err)
	}
	return true
}

func validKey(filter string) string { return "crowd.valid." + filter }

// shared reports whether there is shared data of this key.
func shared(key string) bool {
	_, _, err := proxywasm.GetSharedData(key)
	return err == nil
}
