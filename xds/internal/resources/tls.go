package resources

import (
	"path"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
)

// The name that Envoy gives its extension.
const tlsSocketName = "envoy.transport_sockets.tls"

// gatewayProtocols are offered by ALPN, the preferred one first.
var gatewayProtocols = []string{"h2", "http/1.1"}

// gatewayTLS has the listener speak TLS with the gateway's secret.
func gatewayTLS() *corev3.TransportSocket {
	return &corev3.TransportSocket{
		Name: tlsSocketName,
		ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: packed(&tlsv3.DownstreamTlsContext{
			CommonTlsContext: &tlsv3.CommonTlsContext{
				// Envoy's default for servers, said so that it stays.
				TlsParams:     &tlsv3.TlsParameters{TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_2},
				AlpnProtocols: gatewayProtocols,
				TlsCertificateSdsSecretConfigs: []*tlsv3.SdsSecretConfig{{
					Name:      SecretName,
					SdsConfig: fromADS(),
				}},
			},
		})},
	}
}

// gatewaySecret says where Envoy finds certificate and key: they never travel. Envoy reads both again when something
// is renamed into their directory, as Kubernetes and certificate managers do.
func gatewaySecret(t TLS) *tlsv3.Secret {
	return &tlsv3.Secret{
		Name: SecretName,
		Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: &tlsv3.TlsCertificate{
			CertificateChain: file(t.Cert),
			PrivateKey:       file(t.Key),
			WatchedDirectory: &corev3.WatchedDirectory{Path: path.Dir(t.Cert)},
		}},
	}
}

func file(path string) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_Filename{Filename: path}}
}
