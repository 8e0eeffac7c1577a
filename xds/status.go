package xds

import "github.com/marceloboeira/crowd/xds/internal/server"

// Status is what a Server knows of its groups and their nodes.
type Status = server.Status
