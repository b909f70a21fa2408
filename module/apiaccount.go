package module

// apiOfAccount is what people see and change of their own accounts.
var apiOfAccount = []endpoint{}
