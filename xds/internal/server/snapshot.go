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

// snapshotOf gives every type a version of its own, which depends on nothing but content: servers that read the same
// file agree, and what an Envoy is sent again after a restart is what it has. A type without resources has a version
// too, so that an Envoy that asks for it is told so at once.
func snapshotOf(r resources.Resources) (*cache.Snapshot, error) {
	snapshot := &cache.Snapshot{}
	for responseType, list := range map[types.ResponseType][]types.Resource{
		types.Listener:        anyOf(r.Listeners),
		types.Route:           anyOf(r.Routes),
		types.Cluster:         anyOf(r.Clusters),
		types.Endpoint:        anyOf(r.Endpoints),
		types.ExtensionConfig: anyOf(r.ExtensionConfigs),
	} {
		version, err := versionOf(list)
		if err != nil {
			return nil, err
		}
		snapshot.Resources[responseType] = cache.NewResources(version, list)
	}
	if err := snapshot.Consistent(); err != nil {
		panic(fmt.Sprintf("BUG: %v", err))
	}
	return snapshot, nil
}

func anyOf[R types.Resource](list []R) []types.Resource {
	resources := make([]types.Resource, 0, len(list))
	for _, r := range list {
		resources = append(resources, r)
	}
	return resources
}

func versionOf(list []types.Resource) (string, error) {
	hash := sha256.New()
	for _, r := range list {
		b, err := cache.MarshalResource(r)
		if err != nil {
			return "", fmt.Errorf("marshal %s: %w", cache.GetResourceName(r), err)
		}
		// The length in front keeps two lists apart that are the same bytes one after another.
		hash.Write(binary.BigEndian.AppendUint64(nil, uint64(len(b))))
		hash.Write(b)
	}
	return hex.EncodeToString(hash.Sum(nil))[:versionDigits], nil
}
