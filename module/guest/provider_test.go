package guest

import (
	"strings"
	"testing"
)

func TestNamesOfInstances(t *testing.T) {
	for _, good := range []string{"a", "google-2", "0_x", strings.Repeat("a", 32)} {
		if err := CheckName(good); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range append(reserved, "", "A", "ä", "a b", "a/b", "..", "a.b", "a\n", strings.Repeat("a", 33)) {
		if CheckName(bad) == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}
