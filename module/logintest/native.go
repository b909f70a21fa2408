package logintest

// AppToken is an ID token that an app of this client got by an SDK of the
// issuer's (OpenID Connect Core section 2), with only these faults. An empty nonce
// is left out. Nobody sends it: that is the test's to do. It panics where the
// machine can make no keys, or does not know the person.
func (i *Issuer) AppToken(clientID, subject, nonce string, faults ...Faults) string {
	i.prepare()
	f := Faults{}
	for _, more := range faults {
		f = f.And(more)
	}
	header, err := i.header(f, "JWT")
	if err != nil {
		panic(err)
	}
	person, ok := i.person(subject)
	if !ok {
		panic("the issuer does not know " + subject)
	}
	claims := person.claims([]string{"email", "profile"})
	now := i.now()
	claims["iss"], claims["aud"] = i.Issuer, clientID
	claims["iat"], claims["exp"] = now.Unix(), now.Add(idTokenLife).Unix()
	if nonce != "" {
		claims["nonce"] = nonce
	}
	i.odds.stuff(claims)
	call(f.IDToken, claims)
	c, _ := i.client(clientID)
	token, err := i.mint(f, header, claims, c.secret)
	if err != nil {
		panic(err)
	}
	return token
}
