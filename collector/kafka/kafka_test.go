package kafka

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/marceloboeira/crowd/collector/kafka/kafkatest"
)

// The files and what java.util.Properties of Java 17 makes of them.
func TestParseProperties(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       Properties
	}{
		{"empty", "", Properties{}},
		{"comments and blank lines", "# a\n\n  ! b\n\t\n", Properties{}},
		{"separators", "sasl.username=a\nsasl.password : b\nsasl.mechanism \t PLAIN\nssl.ca.location  =  /x y \n",
			Properties{saslUsername: "a", saslPassword: "b", saslMechanism: "PLAIN", sslCA: "/x y "}},
		{"no value", "sasl.username\nsasl.password=", Properties{saslUsername: "", saslPassword: ""}},
		{"separators in the value", "sasl.password==a:b=c", Properties{saslPassword: "=a:b=c"}},
		{"continued", "sasl.jaas.config=a \\\n   b \\\r\n\tc\nsasl.username=u",
			Properties{saslJaasConfig: "a b c", saslUsername: "u"}},
		{"an even number of backslashes does not continue", "sasl.password=a\\\\\nsasl.username=u",
			Properties{saslPassword: `a\`, saslUsername: "u"}},
		{"comments are not continued", "# a \\\nsasl.username=u", Properties{saslUsername: "u"}},
		{"escapes", `sasl.password=\t\n\r\f\u00e9\:\=\#\ \q` + "\nsasl\\.username=u",
			Properties{saslPassword: "\t\n\r\fé:=# q", saslUsername: "u"}},
		{"a backslash at the end of the file", `sasl.password=a\`, Properties{saslPassword: "a"}},
		{"utf-8", "sasl.password=pässwörd", Properties{saslPassword: "pässwörd"}},
	} {
		got, err := ParseProperties(c.text)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

func TestParsePropertiesReturnsEveryError(t *testing.T) {
	_, err := ParseProperties("# secrets\nsasl.passwort=hunter2\nsasl.username=a\\\n  b\nsasl.username=c\nsasl.password=hunter2\\u12\n")
	want := []string{
		`line 2: unknown property "sasl.passwort"; known are security.protocol, sasl.mechanism, `,
		"line 5: sasl.username is given twice",
		`line 6: sasl.password: \u needs four hexadecimal digits`,
	}
	for _, w := range want {
		if err == nil || !strings.Contains(err.Error(), w) {
			t.Errorf("%v\nlacks %s", err, w)
		}
	}
	if err != nil && strings.Contains(err.Error(), "hunter2") {
		t.Errorf("the error tells the password: %v", err)
	}
}

func FuzzParseProperties(f *testing.F) {
	f.Add("sasl.username=a\n", "value")
	f.Add("# comment\n\nsecurity.protocol: SASL_SSL\\\n", " \t=:#\\\u00e9\n")
	f.Fuzz(func(t *testing.T, text, value string) {
		if p, err := ParseProperties(text); err == nil {
			_ = p.apply(sarama.NewConfig()) // must not panic
		}
		// What is escaped as java.util.Properties.store does comes back.
		escaped := strings.NewReplacer(`\`, `\\`, "\t", `\t`, "\n", `\n`, "\r", `\r`, "\f", `\f`, " ", `\ `, "#", `\#`,
			"!", `\!`, "=", `\=`, ":", `\:`).Replace(value)
		p, err := ParseProperties("sasl.password=" + escaped)
		if err != nil || p[saslPassword] != value {
			t.Errorf("%q comes back as %q, %v", value, p[saslPassword], err)
		}
	})
}

// Kafka's own clients take it in any case.
func TestProtocolInLowerCase(t *testing.T) {
	c := Config{Brokers: []string{"kafka:9092"}, PropertiesFile: file(t, "p", "security.protocol=ssl \n")}
	s, err := c.Sarama()
	if err != nil || !s.Net.TLS.Enable {
		t.Errorf("TLS %v, %v", err == nil && s.Net.TLS.Enable, err)
	}
}

func TestParseJAAS(t *testing.T) {
	const plain = "org.apache.kafka.common.security.plain.PlainLoginModule"
	for _, c := range []struct {
		text string
		want map[string]string
	}{
		{plain + ` required username="alice" password="a b;\"c\"=\\";`, map[string]string{"username": "alice", "password": `a b;"c"=\`}},
		{plain + ` Required username=alice password='x"y' ;`, map[string]string{"username": "alice", "password": `x"y`}},
		{plain + " required\n\tusername = \"alice\"\n\tpassword = \"\"; ", map[string]string{"username": "alice", "password": ""}},
		{plain + ` required;`, map[string]string{}},
	} {
		got, err := parseJAAS(c.text)
		if err != nil || got.module != plain {
			t.Errorf("%s: module %q, %v", c.text, got.module, err)
		}
		if diff := cmp.Diff(c.want, got.options); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.text, diff)
		}
	}
	for _, text := range []string{
		"", plain, plain + " optional username=a password=hunter2;", plain + " required username=a password=hunter2",
		plain + ` required username="a password=hunter2;`, plain + " required username hunter2;",
		plain + " required =hunter2;", plain + " required a=hunter2; b=c;", "= required;",
	} {
		if _, err := parseJAAS(text); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func FuzzParseJAAS(f *testing.F) {
	f.Add(`org.apache.kafka.common.security.plain.PlainLoginModule required username="alice" password="x";`)
	f.Fuzz(func(t *testing.T, text string) {
		if l, err := parseJAAS(text); err == nil && l.module == "" {
			t.Errorf("%q is an entry without a module", text)
		}
	})
}

func TestValidateReturnsEverythingThatIsWrong(t *testing.T) {
	properties := file(t, "p", "security.protocol=SASL_SSL\nsasl.mechanism=GSSAPI\nssl.ca.location=/nowhere\nssl.key.location=/k\n")
	err := Config{Brokers: []string{"kafka", ":9092", "kafka:http"}, PropertiesFile: properties}.Validate()
	for _, want := range []string{
		`broker "kafka": not host:port`, `broker ":9092": no host`, `broker "kafka:http": port "http"`, properties,
		`sasl.mechanism: "GSSAPI" is none of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512`, "ssl.ca.location: open /nowhere",
		"ssl.certificate.location and ssl.key.location belong together",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nlacks %s", err, want)
		}
	}
	if err := (Config{}).Validate(); err == nil {
		t.Error("no broker is valid")
	}
	if err := (Config{Brokers: []string{"k:1"}, PropertiesFile: "/nowhere"}).Validate(); err == nil {
		t.Error("a missing properties file is valid")
	}
}

func TestPropertiesThatContradictEachOther(t *testing.T) {
	for text, want := range map[string]string{
		"security.protocol=TLS":                        `"TLS" is none of PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL`,
		"sasl.username=a":                              "sasl.username is given, but security.protocol is PLAINTEXT",
		"security.protocol=SSL\nsasl.password=hunter2": "sasl.password is given, but security.protocol is SSL",
		"security.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\nssl.ca.location=/x":                                                        "ssl.ca.location is given, but",
		"security.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\nsasl.username=a":                                                           "no username and password",
		"security.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\nsasl.username=a\nsasl.jaas.config=x required;":                             "give either",
		"security.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\nsasl.jaas.config=x.ScramLoginModule required username=a password=hunter2;": "x.ScramLoginModule is not the login module of PLAIN; that is PlainLoginModule",
	} {
		p, err := ParseProperties(text)
		if err == nil {
			err = p.apply(sarama.NewConfig())
		}
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

// Each mechanism against a broker that asks for it.
func TestConnecting(t *testing.T) {
	ca, certificate := authority(t)
	for _, c := range []struct {
		name       string
		broker     []kfake.Opt
		properties string
	}{
		{name: "plaintext"},
		{"plain", []kfake.Opt{kfake.EnableSASL(), kfake.Superuser("PLAIN", "alice", "a;b")},
			"security.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\n" +
				"sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \\\n username=\"alice\" password=\"a;b\";"},
		{"scram-sha-256", []kfake.Opt{kfake.EnableSASL(), kfake.Superuser("SCRAM-SHA-256", "alice", "secret")},
			"security.protocol=SASL_PLAINTEXT\nsasl.mechanism=SCRAM-SHA-256\nsasl.username=alice\nsasl.password=secret"},
		{"tls and scram-sha-512", []kfake.Opt{
			kfake.EnableSASL(), kfake.Superuser("SCRAM-SHA-512", "alice", "secret"),
			kfake.TLS(&tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}),
		}, "security.protocol=SASL_SSL\nssl.ca.location=" + ca + "\nsasl.mechanism=SCRAM-SHA-512\n" +
			"sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required username=alice password=secret;"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cluster := kafkatest.Start(t, append(c.broker, kfake.SeedTopics(3, "leads"))...)
			config := Config{Brokers: cluster.ListenAddrs()}
			if c.properties != "" {
				config.PropertiesFile = file(t, "client.properties", c.properties)
			}
			partitions, err := connect(config)
			if err != nil || partitions != 3 {
				t.Errorf("%d partitions, %v", partitions, err)
			}
			if strings.Contains(c.properties, "secret") {
				config.PropertiesFile = file(t, "client.properties", strings.ReplaceAll(c.properties, "secret", "wrong"))
				if _, err := connect(config); err == nil {
					t.Error("the wrong password is good enough")
				}
			}
		})
	}
}

func connect(c Config) (int, error) {
	s, err := c.Sarama()
	if err != nil {
		return 0, err
	}
	s.Metadata.Retry.Max = 0
	client, err := sarama.NewClient(c.Brokers, s)
	if err != nil {
		return 0, err
	}
	defer func() { _ = client.Close() }()
	partitions, err := client.Partitions("leads")
	return len(partitions), err
}

func file(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// authority makes a certificate for 127.0.0.1 that is its own authority.
func authority(t *testing.T) (path string, certificate tls.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	text := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return file(t, "ca.pem", text), tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
