// Package envoy finds, configures and runs Envoy, and holds the bootstraps that people start theirs with.
package envoy

// Version is the Envoy that crowd is built for and tested with.
const Version = "1.40.0"
