// Command bench is the scoreboard of what a sign-in in front of an app costs: our
// gate, beside the same Caddy with nothing but reverse_proxy, beside the floor, the
// least that any gate with server-side sessions must do, and beside itself where
// more people come, or are known.
//
//	go run ./plugin/caddy/bench
//	go run ./plugin/caddy/bench -only signed-in,streams
//
// It ends in targets, each held or missed. One that is missed is no error.
//
// # What runs
//
// Every part is a process of its own, all of this one program: the app, the
// load generator, and one Caddy per arm, started by `caddy run` with a
// Caddyfile as an operator would write it. The generator's connections are
// kept alive and each sends the next request when the last one was answered
// (a closed loop). Every connection is another visitor, who has really signed
// in; all arms get the same requests, with the headers that Chrome sends.
//
// It is http on loopback: TLS would cost every arm the same and make ratios
// look better than they are.
//
// # What counts
//
// CPU per request is the proxy's own account (getrusage), divided by the
// requests of the round. Arms take turns in random order within each round,
// and a ratio is taken between neighbours of one round, so that what else the
// machine does falls on both. Reported are the median of the rounds' ratios
// and their range.
//
// A round counts only if the app saw each of its requests, and in each the
// headers it must see, and the generator each answer as it must be. One that
// does not is named, and the program's exit status is 1.
//
// # One session and very many
//
// In the part "visitors" all connections share one session, or each request is
// another's, of -visitors: with a gate and a floor of its own for the one and for
// the many, so that what is kept at hand for many costs them alone. All sessions
// were asked for before, and all requests are made beforehand. In another arm one
// session alone is used at the gate of the many: beside it stands what it costs
// that each request is another's, and beside the gate of one what it costs that the
// others are at hand. The gates are compared twice: with garbage collected at one
// rate, as below, and as Go does by itself, the less often the more is there.
//
// There the store counts what it is asked, and the app how many requests come with
// another assertion than their visitor's last: so many were signed. Both must be
// none. An assertion lives for minutes, and who was seen last is written down once
// a minute: what that costs falls into single rounds, and shows in no median.
//
// Then come turns in which the gate's process notices whoever waits for a lock. It
// is ours where our code holds it, or somebody whom our code called: what Caddy does
// with a request that we have handed on is Caddy's.
//
// # The sign-in page
//
// It offers two providers and the way by email, and is compared with a page of the
// same bytes and headers that a handler holds ready.
//
// # WebSockets
//
// A message has 100 bytes; each stream sends the next one when the last came back.
// Streams are open before a turn begins and closed after its end. What it costs to
// open one is a row of its own, with one message and the end.
//
// # Very many sessions
//
// Stores with those of the visitors alone, with a tenth of -sessions and with all of
// them, of people with five browsers each, and an empty one, are opened, and
// Caddies started on them, again and again. Those last started are weighed, and once
// more when each visitor has come, beside Caddy without us that was asked as often.
// Then the visitors come to each of them, in turns. The stores are kept for later
// runs, as below: two million sessions take 5.3 GB, and a run as much again for its
// copy.
//
// # Log-ins
//
// What it takes to sign somebody in or out is counted from end to end, through
// a Caddy with several sites and a provider on loopback: from the page that a
// stranger asks for, over the provider and our callback, back to that page.
// People come one after the other, each in a new browser, so that nobody shares
// a write to disk with another. CPU is our process's own, user and system, read
// from outside between the steps; the calls are the provider's count; the store
// is counted by a wrapper within the process; the disk is the kernel's account,
// where each touched page counts whole, without the file system's own journal.
// What Badger rewrites every few thousand log-ins falls into single rounds and
// shows in no median.
//
// By email there is no provider: in its stead people ask for a code, and come
// back by typing it. Their mail is written and goes through the queue, to a
// mailer in memory, and belongs to the cost of asking. Who is not invited gets
// none and must be told the same at the same cost: CPU and store are compared
// within rounds.
//
// Somebody new to the app must be new to it, somebody known the same as before,
// and a session that was signed out must not work: else nothing counts. This
// Caddy gets no ballast: the figures are an operator's.
//
// # Very many people
//
// A store of -people users is made, each with an account, and one in five of them
// signed in: all written by what the house writes with, into memory, and laid down
// from there as the store does. It is kept in the machine's temporary directory for
// later runs, which work on copies of it. With a million people it takes 1.4 GB, and
// a run, with a backup and a restore, for a while 7 GB. All of it is in the page
// cache: how a cold disk answers is not measured.
//
// Each figure is taken twice within a round, among those people and among a
// thousand, and so is its ratio. Who is asked for is always another one, out of
// all. An answer about somebody else does not count, nor one for which the store
// was asked for more records than it takes, whoever else there is.
//
// Sign-ins beside a backup are as fast as eight people come, all with their browsers
// and the provider on this machine. A restore ends in nobody being signed in, and
// in everybody being there.
//
// # A flood
//
// Strangers ask for codes, each from a network of its own (X-Forwarded-For, from
// a trusted proxy) and for an address of its own, at first as many as -flood
// says, as fast as they are answered: what that leaves in memory and on disk is
// weighed as soon as the last one has its answer. Then signed-in visitors are
// measured with a flood beside them and without, and so is a plain reverse_proxy
// in the same process: what a flood adds to that is taken for its own CPU, and
// taken off what it adds to the signed-in. So what shared processors and caches
// cost both of them shows in neither.
//
// # Garbage collection
//
// How often Go collects depends on how much is alive. A store in the process
// adds to that, and Caddy would then look cheaper with a gate than without. So
// after a warm-up each proxy is given ballast until all hold the same, 32 MB or
// what the largest of them holds, and with Go's default all collect after the same
// amount of garbage. Marking
// what is really alive stays each proxy's own cost. The collections are
// reported. Memory is weighed before, as an operator would find it.
package main
