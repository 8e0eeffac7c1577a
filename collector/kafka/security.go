package kafka

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/IBM/sarama"
)

// apply sets up s as the properties say.
func (p Properties) apply(s *sarama.Config) error {
	// As Kafka's own clients take it.
	protocol := cmp.Or(strings.ToUpper(strings.TrimSpace(p[securityProtocol])), "PLAINTEXT")
	switch protocol {
	case "PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL":
	default:
		return fmt.Errorf("%s: %q is none of PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL", securityProtocol, p[securityProtocol])
	}
	return errors.Join(
		p.applyTLS(s, protocol, strings.HasSuffix(protocol, "SSL")),
		p.applySASL(s, protocol, strings.HasPrefix(protocol, "SASL_")))
}

// unused returns an error for properties of a part of the protocol that is not switched on: whoever wrote them
// expects a protection that would not be there.
func (p Properties) unused(protocol string, names ...string) error {
	var errs []error
	for _, name := range names {
		if _, ok := p[name]; ok {
			errs = append(errs, fmt.Errorf("%s is given, but %s is %s", name, securityProtocol, protocol))
		}
	}
	return errors.Join(errs...)
}

func (p Properties) applyTLS(s *sarama.Config, protocol string, on bool) error {
	if !on {
		return p.unused(protocol, sslCA, sslCertificate, sslKey)
	}
	var errs []error
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if path := p[sslCA]; path != "" {
		pem, err := os.ReadFile(path)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", sslCA, err))
		} else if config.RootCAs = x509.NewCertPool(); !config.RootCAs.AppendCertsFromPEM(pem) {
			errs = append(errs, fmt.Errorf("%s: no certificate in PEM form in %s", sslCA, path))
		}
	}
	certificate, key := p[sslCertificate], p[sslKey]
	switch {
	case certificate == "" && key == "":
	case certificate == "" || key == "":
		errs = append(errs, fmt.Errorf("%s and %s belong together", sslCertificate, sslKey))
	default:
		pair, err := tls.LoadX509KeyPair(certificate, key)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s, %s: %w", sslCertificate, sslKey, err))
		}
		config.Certificates = []tls.Certificate{pair}
	}
	s.Net.TLS.Enable = true
	s.Net.TLS.Config = config
	return errors.Join(errs...)
}

func (p Properties) applySASL(s *sarama.Config, protocol string, on bool) error {
	if !on {
		return p.unused(protocol, saslMechanism, saslJaasConfig, saslUsername, saslPassword)
	}
	sasl := &s.Net.SASL
	sasl.Enable = true
	sasl.Version = sarama.SASLHandshakeV1
	var module string
	switch p[saslMechanism] {
	case "PLAIN":
		sasl.Mechanism, module = sarama.SASLTypePlaintext, "PlainLoginModule"
	case "SCRAM-SHA-256":
		sasl.Mechanism, module = sarama.SASLTypeSCRAMSHA256, "ScramLoginModule"
		sasl.SCRAMClientGeneratorFunc = newSCRAM256
	case "SCRAM-SHA-512":
		sasl.Mechanism, module = sarama.SASLTypeSCRAMSHA512, "ScramLoginModule"
		sasl.SCRAMClientGeneratorFunc = newSCRAM512
	default:
		return fmt.Errorf("%s: %q is none of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512", saslMechanism, p[saslMechanism])
	}
	sasl.User, sasl.Password = p[saslUsername], p[saslPassword]
	if jaas, ok := p[saslJaasConfig]; ok {
		if sasl.User != "" || sasl.Password != "" {
			return fmt.Errorf("give either %s or %s and %s", saslJaasConfig, saslUsername, saslPassword)
		}
		login, err := parseJAAS(jaas)
		if err != nil {
			return fmt.Errorf("%s: %w", saslJaasConfig, err)
		}
		if name := login.module[strings.LastIndex(login.module, ".")+1:]; name != module {
			return fmt.Errorf("%s: %s is not the login module of %s; that is %s", saslJaasConfig, login.module,
				p[saslMechanism], module)
		}
		sasl.User, sasl.Password = login.options["username"], login.options["password"]
	}
	if sasl.User == "" || sasl.Password == "" {
		return fmt.Errorf("%s: no username and password: give %s, or %s and %s", protocol, saslJaasConfig,
			saslUsername, saslPassword)
	}
	return nil
}
