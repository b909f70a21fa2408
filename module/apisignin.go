package module

// apiOfSignIn is signing in, and answering what is asked on the way.
var apiOfSignIn = []endpoint{}

// linkView is what an app asks its visitor to confirm.
type linkView struct {
	ID       string `json:"id"`       // for links/{id}/…
	Provider string `json:"provider"` // where the account is
	Account  string `json:"account"`  // what it is called there
	Into     string `json:"into"`     // the address of the user that it would belong to, masked
}
