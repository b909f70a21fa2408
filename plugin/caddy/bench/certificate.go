package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// certify makes an authority, also as PEM, and a certificate of its for
// localhost: whoever connects checks one signature of the chain, and one of the
// handshake.
func certify() (leaf tls.Certificate, authority *x509.Certificate, asPEM []byte, err error) {
	authorityKey, err1 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	key, err2 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err := errors.Join(err1, err2); err != nil {
		return leaf, nil, nil, fmt.Errorf("making keys for TLS: %w", err)
	}
	authority = certificate(1, "caddy-login bench authority")
	authority.IsCA, authority.BasicConstraintsValid = true, true
	authority.KeyUsage = x509.KeyUsageCertSign
	raw, err := x509.CreateCertificate(rand.Reader, authority, authority, &authorityKey.PublicKey, authorityKey)
	if err != nil {
		return leaf, nil, nil, fmt.Errorf("signing the authority: %w", err)
	}
	if authority, err = x509.ParseCertificate(raw); err != nil {
		return leaf, nil, nil, fmt.Errorf("reading the authority: %w", err)
	}
	own := certificate(2, "localhost")
	own.DNSNames, own.ExtKeyUsage = []string{"localhost"}, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	der, err := x509.CreateCertificate(rand.Reader, own, authority, &key.PublicKey, authorityKey)
	if err != nil {
		return leaf, nil, nil, fmt.Errorf("signing the certificate: %w", err)
	}
	leaf = tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	return leaf, authority, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}), nil
}

func certificate(serial int64, name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
}
