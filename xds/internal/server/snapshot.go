package server

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"

	"github.com/marceloboeira/crowd/xds/internal/resources"
)

// versionDigits of SHA-256 tell versions apart, and can still be read aloud.
const versionDigits = 16

// snapshot is one version of a group's resources. It never changes, and the nodes that are to have it share it.
type snapshot struct {
	*cache.Snapshot
	version string
}

// snapshotOf gives every type a version of its own, which depends on nothing but content: servers that read the same
// file agree, and what an Envoy is sent again after a restart is what it has. A type without resources has a version
// too, so that an Envoy that asks for it is told so at once. The version of the whole is a hash of those.
func snapshotOf(r resources.Resources) (*snapshot, error) {
	s, all := &snapshot{Snapshot: &cache.Snapshot{}}, sha256.New()
	for _, list := range []struct {
		of        types.ResponseType
		resources []types.Resource
	}{
		{types.Listener, anyOf(r.Listeners)},
		{types.Route, anyOf(r.Routes)},
		{types.Cluster, anyOf(r.Clusters)},
		{types.Endpoint, anyOf(r.Endpoints)},
		{types.ExtensionConfig, anyOf(r.ExtensionConfigs)},
		{types.Secret, anyOf(r.Secrets)},
	} {
		sum, err := sumOf(list.resources)
		if err != nil {
			return nil, err
		}
		s.Resources[list.of] = cache.NewResources(digits(sum), list.resources)
		all.Write(sum)
	}
	s.version = digits(all.Sum(nil))
	if err := s.Consistent(); err != nil {
		panic(fmt.Sprintf("BUG: %v", err))
	}
	// Now, because the cache would do it while others read.
	if err := s.ConstructVersionMap(); err != nil {
		return nil, fmt.Errorf("versions of single resources: %w", err)
	}
	return s, nil
}

func anyOf[R types.Resource](list []R) []types.Resource {
	resources := make([]types.Resource, 0, len(list))
	for _, r := range list {
		resources = append(resources, r)
	}
	return resources
}

func sumOf(list []types.Resource) ([]byte, error) {
	hash := sha256.New()
	for _, r := range list {
		b, err := cache.MarshalResource(r)
		if err != nil {
			return nil, fmt.Errorf("marshal %s: %w", cache.GetResourceName(r), err)
		}
		// The length in front keeps two lists apart that are the same bytes one after another.
		hash.Write(binary.BigEndian.AppendUint64(nil, uint64(len(b))))
		hash.Write(b)
	}
	return hash.Sum(nil), nil
}

func digits(sum []byte) string { return hex.EncodeToString(sum)[:versionDigits] }
