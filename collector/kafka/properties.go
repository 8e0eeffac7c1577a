package kafka

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Properties are the entries of a client.properties file: those that say how a connection is secured, and no
// others. What belongs to Java's key stores has librdkafka's names and takes PEM files.
type Properties map[string]string

// The known properties.
const (
	securityProtocol = "security.protocol" // PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL; default PLAINTEXT
	saslMechanism    = "sasl.mechanism"    // PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512
	saslJaasConfig   = "sasl.jaas.config"  // the login module with username and password, or instead of it
	saslUsername     = "sasl.username"     // these two
	saslPassword     = "sasl.password"
	sslCA            = "ssl.ca.location"          // PEM; default: the system's authorities
	sslCertificate   = "ssl.certificate.location" // PEM, with
	sslKey           = "ssl.key.location"         // its key: the client's own certificate
)

var knownProperties = []string{
	securityProtocol, saslMechanism, saslJaasConfig, saslUsername, saslPassword, sslCA, sslCertificate, sslKey,
}

// ParseProperties reads the text of a properties file, in the format of java.util.Properties but as UTF-8:
// `key=value`, `key: value` or `key value`; comments begin with # or !; a backslash at the end of a line joins it
// to the next; \t \n \r \f \uXXXX are escapes, and a backslash before anything else stands for that. Unknown and
// repeated keys are errors. Errors never quote a value: it may be a secret.
func ParseProperties(text string) (Properties, error) {
	p := Properties{}
	var errs []error
	lines := strings.Split(strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(text), "\n")
	for i := 0; i < len(lines); i++ {
		number := i + 1
		line := trimStart(lines[i])
		if line == "" || line[0] == '#' || line[0] == '!' {
			continue
		}
		for continues(line) && i+1 < len(lines) {
			i++
			line = line[:len(line)-1] + trimStart(lines[i])
		}
		rawKey, rawValue := split(line)
		key, err := unescape(rawKey)
		value, valueErr := unescape(rawValue)
		_, repeated := p[key]
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("line %d: key: %w", number, err))
		case !slices.Contains(knownProperties, key):
			errs = append(errs, fmt.Errorf("line %d: unknown property %q; known are %s", number, key,
				strings.Join(knownProperties, ", ")))
		case repeated:
			errs = append(errs, fmt.Errorf("line %d: %s is given twice", number, key))
		case valueErr != nil:
			errs = append(errs, fmt.Errorf("line %d: %s: %w", number, key, valueErr))
		default:
			p[key] = value
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return p, nil
}

func trimStart(s string) string { return strings.TrimLeft(s, " \t\f") }

// continues says whether a line ends in an odd number of backslashes.
func continues(line string) bool {
	return (len(line)-len(strings.TrimRight(line, `\`)))%2 == 1
}

// split cuts a line at its first unescaped separator: white space, or = or : with white space around it.
func split(line string) (key, value string) {
	for i := 0; i < len(line); i++ {
		switch line[i] {
		case '\\':
			i++
		case '=', ':':
			return line[:i], trimStart(line[i+1:])
		case ' ', '\t', '\f':
			rest := trimStart(line[i:])
			if rest != "" && (rest[0] == '=' || rest[0] == ':') {
				rest = trimStart(rest[1:])
			}
			return line[:i], rest
		}
	}
	return line, ""
}

func unescape(s string) (string, error) {
	if !strings.Contains(s, `\`) {
		return s, nil
	}
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			out.WriteByte(s[i])
			continue
		}
		if i++; i == len(s) {
			break // a backslash at the end of the file joins nothing
		}
		switch c := s[i]; c {
		case 't':
			out.WriteByte('\t')
		case 'n':
			out.WriteByte('\n')
		case 'r':
			out.WriteByte('\r')
		case 'f':
			out.WriteByte('\f')
		case 'u':
			if len(s) < i+5 {
				return "", errors.New(`\u needs four hexadecimal digits`)
			}
			code, err := strconv.ParseUint(s[i+1:i+5], 16, 16)
			if err != nil {
				return "", errors.New(`\u needs four hexadecimal digits`)
			}
			out.WriteRune(rune(code))
			i += 4
		default:
			out.WriteByte(c)
		}
	}
	return out.String(), nil
}
