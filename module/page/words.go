package page

// language is everything the pages say in one language. {site}, {host} and
// {provider} stand for themselves, always inside a sentence, never at its
// beginning: {provider} may be a description in lower case.
type language struct {
	// Lang is the BCP 47 tag, Dir "ltr" or "rtl".
	Lang, Dir string
	Words     map[string]string
}

var english = language{Lang: "en", Dir: "ltr", Words: map[string]string{
	"host":     "this site",
	"provider": "the sign-in service",
	"request":  "Request",
	"broken":   "This page could not be drawn. Please try again in a moment.",

	"sign_in":       "Sign in",
	"sign_in_with":  "Sign in with {provider}",
	"sign_in_again": "Sign in again",
	"sign_out":      "Sign out",
	"continue":      "Continue",
	"stay":          "Stay signed in",
	"try_again":     "Try again",
	"use_another":   "Use another account",
	"use_known_way": "Sign in the way you did before",
	"open_safely":   "Open the safe address",
	"to_sign_in":    "Go to the sign-in page",
	"other_ways":    "Other ways to sign in",
	"last_used":     "Last used",

	"choose.title":      "Sign in",
	"choose.lead":       "Choose how you want to continue.",
	"choose.none":       "There is no way to sign in here yet. Whoever runs this site has to add one.",
	"choose.signed_out": "You are signed out.",
	"choose.switch":     "You are signed out. Now choose another account.",

	"not_kept.title":   "You signed in, but your browser did not keep it.",
	"not_kept.what":    "These are the usual reasons:",
	"not_kept.blocked": "Cookies are blocked for this site, by a setting or an extension. Allow them.",
	"not_kept.private": "This is a private window, or a browser inside another app. Open the page in your usual browser.",
	"not_kept.twice":   "Another cookie of the same name is in the way. Delete this site’s cookies.",

	"signed_in.title": "You’re signed in",
	"signed_in.lead":  "Go on, or sign out to use another account.",

	"ask_sign_out.title": "Sign out?",
	"ask_sign_out.lead":  "You will have to sign in again before you can go on here.",

	"signed_out.title":    "You’re signed out",
	"signed_out.lead":     "This browser can no longer open {site} in your name.",
	"signed_out.here":     "You’re signed out here",
	"signed_out.next":     "If another service signed you in, you may still be signed in there. On a shared device, sign out there too.",
	"signed_out.both":     "You are signed out here and at {provider}.",
	"signed_out.still_in": "You may still be signed in at {provider}.",
	"signed_out.shared":   "We could only sign you out here. On a shared device, sign out there too, or the next person may get in as you.",

	"not_admitted.title": "This account has no access",
	"not_admitted.lead":  "You are signed in, but this page is not open to you.",
	"not_admitted.next":  "Use another account, or ask whoever runs this site to let this one in.",

	"bounce.title": "One moment",
	"bounce.lead":  "Taking you onward. If nothing happens, use the button.",

	"trouble.title": "Something went wrong",

	"expired.title": "That took too long",
	"expired.what":  "Too much time went by, or the sign-in was begun in another browser or window.",
	"expired.next":  "Nothing is lost. Begin again from here.",

	"cookies_blocked.title": "Your browser did not send our cookie back",
	"cookies_blocked.what":  "When the sign-in began we set a cookie, so that nobody else can finish it. It did not come back.",
	"cookies_blocked.next":  "Allow cookies for {host}. Private windows, content blockers and browsers inside other apps often hold them back: your usual browser may be all it takes.",

	"unsafe_address.title": "Nobody can sign in at this address",
	"unsafe_address.what":  "Browsers keep a sign-in only over a secure connection, and this page was opened at {host} without one.",
	"unsafe_address.next":  "Open it with https:// in front. If you run this site: serve it over HTTPS; to try things out on your own machine, http://localhost works too.",

	"provider_unavailable.title": "No answer from {provider}",
	"provider_unavailable.what":  "We could not reach {provider} just now. Nothing is wrong with your account.",
	"provider_unavailable.next":  "Try again in a minute, or sign in another way.",

	"provider_error.title": "An error at {provider}",
	"provider_error.what":  "You were sent back by {provider} with an error, so you are not signed in.",
	"provider_error.next":  "Try again. If it happens twice, sign in another way, or tell whoever runs this site.",

	"cancelled.title": "You cancelled",
	"cancelled.what":  "You said no at {provider}, so you are not signed in. Nothing was changed.",
	"cancelled.next":  "Changed your mind? You can try again, or sign in another way.",

	"invalid_answer.title": "We could not trust that answer",
	"invalid_answer.what":  "What came back from {provider} did not pass our checks, so you are not signed in.",
	"invalid_answer.next":  "Try again. If it happens twice, tell whoever runs this site.",

	"not_allowed.title": "This account can’t be used here",
	"not_allowed.what":  "Only certain accounts from {provider} may sign in here, and the one you chose is not among them.",
	"not_allowed.next":  "Choose another account, or ask whoever runs this site.",

	"email_in_use.title": "You already have an account",
	"email_in_use.what":  "Somebody with this email address has signed in here before, in another way.",
	"email_in_use.next":  "If that was you, sign in the way you did then.",

	"signup_disabled.title": "New accounts are closed",
	"signup_disabled.what":  "Only people who are already known here can sign in, and this account is new.",
	"signup_disabled.next":  "If you have been here before, use the account you had then. Otherwise ask whoever runs this site.",

	"account_disabled.title": "This account is disabled",
	"account_disabled.what":  "It was switched off by whoever runs this site.",
	"account_disabled.next":  "Ask them if you think this is a mistake, or use another account.",

	"signed_out_meanwhile.title": "You were signed out meanwhile",
	"signed_out_meanwhile.what":  "While you were signing in, we heard from {provider} that your session there had ended. So you are not signed in here either.",
	"signed_out_meanwhile.next":  "If you still want to come in, sign in again.",

	"bad_request.title": "We did not understand that",
	"bad_request.what":  "Something in the address or the form was missing or damaged.",
	"bad_request.next":  "Begin again from the sign-in page.",

	"cross_site.title": "That came from another site",
	"cross_site.what":  "A form on another site tried to do something here in your name. We did not let it.",
	"cross_site.next":  "If you wanted this, do it from here.",

	"not_found.title": "There is no such page",
	"not_found.what":  "The address may be mistyped, or out of date.",
	"not_found.next":  "You can begin again from the sign-in page.",

	"method_not_allowed.title": "This page works another way",
	"method_not_allowed.what":  "The address is right, but it can’t be used like that.",
	"method_not_allowed.next":  "Begin again from the sign-in page.",

	"rate_limited.title": "That was a little too often",
	"rate_limited.what":  "There were many attempts in a short time. To keep accounts safe, we pause for a while.",
	"rate_limited.next":  "Wait a few minutes, then try again.",

	"unavailable.title": "Signing in is paused",
	"unavailable.what":  "We can’t sign anybody in at the moment. People who are signed in stay so.",
	"unavailable.next":  "Try again in a minute.",

	"internal.title": "Something went wrong here",
	"internal.what":  "The fault is on our side, not yours.",
	"internal.next":  "Try again. If it happens twice, tell whoever runs this site.",
}}
