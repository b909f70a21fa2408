package seal

import "time"

// Age is how old the current key is.
func (r *Ring) Age() time.Duration { return r.now().Sub(r.keys.Load().current.made) }
