package server

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/marceloboeira/crowd/xds/internal/rollout"
)

// opened begins a stream, of a service for one type or (typeURL is empty) for all.
func (s *Server) opened(key streamKey, typeURL string) {
	defer s.lock()()
	s.streams[key] = &stream{typeURL: typeURL, subscriptions: map[string]*subscription{}}
}

// closed ends a stream, and with its last stream a node.
func (s *Server) closed(key streamKey) {
	defer s.lock()()
	st, now := s.streams[key], time.Now()
	delete(s.streams, key)
	n := st.node
	if n == nil {
		return
	}
	delete(n.streams, st)
	if len(n.streams) > 0 {
		if n.group != nil {
			s.review(n, now) // the others may have all that is wanted
			s.drive(n.group, now)
		}
		return
	}
	s.remember(n, now)
	delete(s.nodes, n.key)
	s.cache.ClearSnapshot(n.key.String())
	s.metrics.nodes.WithLabelValues(n.key.group).Dec()
	s.log.Info("envoy disconnected", "node", n.key.id, "group", n.key.group)
	if n.group != nil {
		delete(n.group.nodes, n.key.id)
		if !s.stopped {
			n.group.rollout.Disconnected(n.key.id, now)
			s.drive(n.group, now)
		}
	}
}

// requested notes what a request says of its sender, of what that wants, and of the response it answers. It returns
// the node by which go-control-plane is to know the sender, and the version of the stream's latest response of the type
// if that is what the request refers to.
func (s *Server) requested(key streamKey, r request) (_ *corev3.Node, answered string) {
	defer s.lock()()
	st, now := s.streams[key], time.Now()
	if st.node == nil {
		s.bind(st, r.node, now)
	}
	n := st.node
	r.typeURL = cmp.Or(r.typeURL, st.typeURL)
	if _, served := typeNames[r.typeURL]; !served {
		if r.rejection != nil {
			s.rejected(n, r, response{})
		}
		return n.inCache, ""
	}

	b := st.subscriptions[r.typeURL]
	if b == nil {
		b = newSubscription(r)
		st.subscriptions[r.typeURL] = b
		n.settles = now.Add(settleTime)
		s.settling = append(s.settling, settling{n, n.settles})
		if n.group != nil {
			n.group.rollout.Has(n.key.id, n.group.cameWith(b))
		}
	} else {
		b.update(r)
	}
	response, answers := b.answered(r.nonce)
	switch {
	case r.rejection != nil:
		rejection := s.rejected(n, r, response)
		if answers {
			b.reject(response, rejection)
		}
		if n.group != nil {
			n.group.rollout.Nacked(n.key.id, rejection.Version, rejection.Type, rejection.Reason, now)
		}
	case answers:
		b.accept(response, n.group.rolledBack(b.rejection))
	}
	if n.group != nil {
		s.review(n, now)
		s.drive(n.group, now)
	}
	if r.nonce != "" && r.nonce == b.latest.nonce {
		answered = b.latest.version
	}
	return n.inCache, answered
}

// bind notes whose stream it is.
func (s *Server) bind(st *stream, sender *corev3.Node, now time.Time) {
	key := nodeKey{group: s.options.Group(sender), id: sender.GetId()}
	n := s.nodes[key]
	if n == nil {
		n = &node{
			key: key, cluster: sender.GetCluster(), inCache: &corev3.Node{Id: key.String()}, since: now, streams: map[*stream]struct{}{},
		}
		s.nodes[key] = n
		s.returned(key)
		s.metrics.nodes.WithLabelValues(key.group).Inc()
		v := sender.GetUserAgentBuildVersion().GetVersion()
		log := s.log.With("node", key.id, "cluster", n.cluster, "group", key.group,
			"version", fmt.Sprintf("%d.%d.%d", v.GetMajorNumber(), v.GetMinorNumber(), v.GetPatch()))
		if key.group == "" {
			log.Warn("envoy connected, but no group takes it, and it gets nothing")
		} else {
			log.Info("envoy connected")
			n.group = s.group(key.group)
			n.group.nodes[key.id] = n
			n.group.rollout.Connected(key.id, now)
			s.give(n, now)
			s.drive(n.group, now)
		}
	}
	st.node = n
	if st.typeURL == "" && !n.shared && n.hasADS() {
		n.shared = true
		s.log.Warn("envoys share a node id and count as one, also for canaries; give each its own, such as --service-node \"$(hostname)\"",
			"node", key.id, "group", key.group)
	}
	n.streams[st] = struct{}{}
}

// maxReason bounds what is kept of a rejection, in bytes: Envoy may repeat all that it rejects.
const maxReason = 4 << 10

// rejected counts and logs a rejection, and returns what is to be remembered of it.
func (s *Server) rejected(n *node, r request, rejects response) *rollout.Rejection {
	name, reason := typeName(r.typeURL), r.rejection.GetMessage()
	if len(reason) > maxReason {
		reason = strings.ToValidUTF8(reason[:maxReason], "") + "…"
	}
	s.metrics.nacks.WithLabelValues(name).Inc()
	s.log.Error("envoy rejected configuration and keeps what it had", "node", n.key.id, "group", n.key.group,
		"type", name, "version", rejects.of, "reason", reason)
	return &rollout.Rejection{Node: n.key.id, Version: rejects.of, Type: name, Reason: reason, At: time.Now()}
}

// responded notes a response that is about to be sent.
func (s *Server) responded(key streamKey, typeURL string, sent response) {
	defer s.lock()()
	st := s.streams[key]
	s.metrics.responses.WithLabelValues(typeName(typeURL)).Inc()
	s.log.Debug("sent", "node", st.node.key.id, "type", typeName(typeURL), "version", sent.version)
	if b := st.subscriptions[typeURL]; b != nil && st.node.group != nil {
		sent.of = st.node.group.versionOf(typeURL, sent.version)
		b.sent(sent)
	}
}
