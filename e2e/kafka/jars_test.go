package kafka

import (
	"encoding/xml"
	"testing"
)

// TestPomAgrees holds the version in Go and the one that Maven fetches together.
func TestPomAgrees(t *testing.T) {
	var project struct {
		Dependencies []struct {
			Artifact string `xml:"artifactId"`
			Version  string `xml:"version"`
		} `xml:"dependencies>dependency"`
	}
	if err := xml.Unmarshal(pom, &project); err != nil {
		t.Fatalf("parsing pom.xml: %v", err)
	}
	for _, d := range project.Dependencies {
		if d.Artifact == "kafka_2.13" {
			if d.Version != Version {
				t.Errorf("pom.xml has Kafka %s, Version is %s", d.Version, Version)
			}
			return
		}
	}
	t.Error("pom.xml does not name kafka_2.13")
}
