// A single-page app that draws its own sign-in. It never holds a secret: the
// session is a cookie that no script can read, and what the API names are marks
// that open nothing without the cookies beside them.

// Where the API is, unless the site's `pages` says otherwise.
const API = "/.login/api/v1/";

const nav = document.getElementById("nav");
const view = document.getElementById("view");
const told = document.getElementById("told");

let metadata; // the ways in
let session; // who is signed in, or null
let then = null; // the change that waits for a fresh sign-in: [name, about]
let skew = 0; // how far this device's clock is behind the site's, in ms

// --- The API ---------------------------------------------------------------

// Problem is why a call came to nothing (RFC 9457).
class Problem extends Error {
	constructor(body) {
		super(body.detail || body.title);
		this.code = body.code;
		this.requestID = body.request_id;
		this.attemptsLeft = body.attempts_left;
	}
}

// request sends JSON and returns the answer, or throws a Problem.
async function request(method, url, body) {
	const answer = await fetch(url, {
		method,
		headers: body ? {"Content-Type": "application/json"} : {},
		body: body && JSON.stringify(body),
	});
	skew = (Date.parse(answer.headers.get("Date")) || Date.now()) - Date.now();
	if (answer.ok) {
		return answer;
	}
	throw new Problem(await answer.json().catch(() => ({title: `The site answered ${answer.status}.`})));
}

async function call(method, path, body) {
	const answer = await request(method, API + path, body);
	return answer.status === 204 ? {} : answer.json();
}

// whoami is the session, or null for nobody.
async function whoami() {
	try {
		return (await call("GET", "session")).session;
	} catch (e) {
		if (e.code === "sign_in_required") {
			return null;
		}
		throw e;
	}
}

// here is where a sign-in comes back to: the very page that one is at.
const here = () => location.pathname + location.search;

// goTo leaves for a provider, and keeps what to ask about on the way back.
function goTo(envelope) {
	sessionStorage.setItem("begun", JSON.stringify({intent: envelope.intent, then}));
	location.assign(envelope.auth_url);
	return new Promise(() => {}); // this page is about to go
}

// become draws what a sign-in has come to.
async function become(envelope) {
	switch (envelope.status) {
	case "authenticated":
		session = envelope.session;
		return goOn();
	case "redirect_to_provider":
		return goTo(envelope);
	case "otp_required":
		return showCode(envelope.challenges[0]);
	case "confirm_required":
	case "email_required":
		return showQuestion(envelope.link);
	case "denied":
		await showHome();
		return tell(`${envelope.error.title}. ${envelope.error.detail}`);
	}
}

// --- Views -----------------------------------------------------------------

let leaving = []; // what ends with the view

// show puts a view in the place of the last one, and the focus on its heading.
// Texts are put in as text: names are what strangers gave themselves.
function show(name, texts = {}, doing = {}) {
	leaving.forEach(end => end());
	leaving = [];
	const drawn = document.getElementById(name).content.cloneNode(true);
	for (const [slot, text] of Object.entries(texts)) {
		drawn.querySelector(`[data-text=${slot}]`).textContent = text;
	}
	for (const [what, act] of Object.entries(doing)) {
		drawn.querySelector(`[data-do=${what}]`)?.addEventListener("click", () => run(act));
		const form = drawn.querySelector(`[data-form=${what}]`);
		form?.addEventListener("submit", event => {
			event.preventDefault();
			run(() => act(new FormData(form)));
		});
	}
	view.replaceChildren(drawn);
	told.replaceChildren();
	nav.hidden = !session;
	const title = view.querySelector("h1");
	document.title = `${title.textContent} – Notes`;
	title.focus();
}

const part = selector => view.querySelector(selector);

function put(list, ...elements) {
	part(`[data-list=${list}]`).append(...elements);
}

function element(name, text, ...children) {
	const e = document.createElement(name);
	e.append(text, ...children);
	return e;
}

function button(label, act) {
	const b = element("button", label);
	b.type = "button";
	b.addEventListener("click", () => run(act));
	return b;
}

// tell says what is wrong, with what the site's operator finds it by.
function tell(text, requestID) {
	told.replaceChildren(element("p", text));
	if (requestID) {
		told.append(element("small", `Request ${requestID}`));
	}
}

let busy = false;
let polling = null; // the poll under way: what the sign-in has come to, or null

// run does one thing at a time, and says what came to nothing. A poll under way
// comes first: it would ask about what the act ends, or bring the session that
// the act is for.
async function run(act) {
	if (busy) {
		return;
	}
	busy = true;
	view.setAttribute("aria-busy", "true");
	told.replaceChildren();
	try {
		const envelope = await polling;
		await (envelope ? become(envelope) : act());
	} catch (e) {
		await fail(e);
	} finally {
		busy = false;
		view.removeAttribute("aria-busy");
	}
}

async function fail(e) {
	switch (e.code) {
	case "sign_in_required":
		session = null;
		showSignIn();
		return tell("You are not signed in any more. You will come back to this page.", e.requestID);
	case "challenge_expired":
	case "challenge_spent":
	case "challenge_stopped":
	case "too_many_attempts":
	case "outdated":
		await showHome().catch(() => {}); // what is told is why this began
	}
	tell(e instanceof Problem ? e.message : "The site does not answer. Try again in a moment.", e.requestID);
}

// --- Signing in ------------------------------------------------------------

const providers = () => metadata.methods.filter(method => method.kind !== "email");

function showSignIn() {
	then = null;
	show("sign-in", {}, {
		email: async form => become(await call("POST", "challenges", {kind: "email", email: form.get("email"), return: here()})),
	});
	part("[data-form=email]").hidden = !metadata.policy.email;
	for (const {id, label} of providers()) {
		put("ways", button(`Continue with ${label}`, async () => become(await call("POST", "intents", {provider: id, intent: "auto", return: here()}))));
	}
}

function showCode(challenge) {
	const at = `challenges/${challenge.id}/`;
	show("code", {hint: challenge.hint, length: challenge.length, number: challenge.number || ""}, {
		code: form => check(at, form.get("code")),
		resend: async () => become(await call("POST", at + "resend", {})),
		cancel: async () => {
			await call("POST", at + "cancel", {});
			return showHome();
		},
	});
	part("[data-part=number]").hidden = !challenge.number;
	part("input").focus();
	countDown(challenge.resend_at);
	poll(at);
}

async function check(at, code) {
	const field = part("input"), wrong = part("#wrong");
	wrong.textContent = "";
	try {
		await become(await call("POST", at + "check", {code}));
	} catch (e) {
		if (e.code !== "wrong_code") {
			throw e;
		}
		field.setAttribute("aria-invalid", "true");
		wrong.textContent = `${e.message} Tries left: ${e.attemptsLeft}. Request ${e.requestID}`;
		field.select();
	}
}

// countDown says when a mail may be asked for again, by the site's clock.
function countDown(at) {
	const resend = part("[data-do=resend]");
	const tick = () => {
		const left = Math.ceil((Date.parse(at) - Date.now() - skew) / 1000);
		resend.disabled = !at || left > 0;
		resend.textContent = left > 0 ? `Mail it again in ${left} s` : "Mail it again";
	};
	resend.hidden = !at;
	tick();
	const timer = setInterval(tick, 1000);
	leaving.push(() => clearInterval(timer));
}

// poll asks whether the mail's link was opened elsewhere. What is wrong with the
// code is said to whoever types one.
function poll(at) {
	const ask = () => call("POST", at + "poll", {}).then(envelope => envelope.status === "pending" ? null : envelope, () => null);
	const timer = setInterval(async () => {
		if (busy || polling || document.hidden) {
			return;
		}
		polling = ask();
		if (await polling) {
			await run(() => {}); // which takes what was polled, unless it has already
		}
		polling = null;
	}, 3000);
	leaving.push(() => clearInterval(timer));
}

// --- Questions -------------------------------------------------------------

// asks are the questions of a sign-in, in this app's words.
const asks = {
	confirm_link: q => [`Connect ${q.provider_label}?`,
		`${q.account} at ${q.provider_label} would sign in to the account of ${q.into} from now on. Say yes only if both are yours.`],
	link_or_switch: q => ["Which account?",
		`You are signed in as ${q.from}, and came back as ${q.account} of ${q.provider_label}, who is new here.`],
	confirm_switch: q => ["Change accounts?", `You are signed in as ${q.from}, and came back as ${q.into}.`],
	proof: q => ["Is this account yours?",
		`There is an account with the address ${q.into}. Prove that it is yours, and ${q.account} at ${q.provider_label} will sign in to it from now on.`],
	code: q => ["Is this address yours?", `Prove that mail to ${q.into} reaches you.`],
	keep: q => ["Keep your account?",
		`The account of ${q.into} is about to be deleted, on ${when(q.deletes_at)}. You may keep it.`],
};

// yes are the answers to them.
const yes = {
	link: q => `Connect it to ${q.into || q.from}`,
	switch: q => `Go on as ${q.into || q.account}`,
	keep: () => "Keep my account",
};

function showQuestion(q) {
	const [title, why] = asks[q.question](q);
	show("question", {title, why: q.adds ? `${why} The address ${q.adds} becomes yours, too.` : why});
	for (const choice of q.choices) {
		put("answers", button(yes[choice](q), async () => become(await call("POST", `links/${q.id}/confirm`, {do: choice}))));
	}
	if (q.proofs.includes("email")) {
		put("answers", button("Mail me a code", async () => become(await call("POST", "challenges", {kind: "email", link: q.id}))));
	}
	for (const way of q.ways || []) {
		put("answers", button(`Sign in with ${way.label}`, async () => become(await call("POST", "intents", {provider: way.provider, intent: "prove", link: q.id}))));
	}
	put("answers", button("No, leave it", async () => become(await call("POST", `links/${q.id}/reject`, {}))));
}

// --- Signed in -------------------------------------------------------------

// goOn does what waited for the sign-in, or shows the page that one wanted.
async function goOn() {
	const next = then;
	then = null;
	return next ? change(...next) : showHome();
}

async function showHome() {
	then = null;
	session = await whoami();
	if (!session) {
		return showSignIn();
	}
	return new URLSearchParams(location.search).get("page") === "account" ? showAccount() : showNotes();
}

const who = () => session.name && session.email ? `${session.name} (${session.email})` : session.name || session.email || session.user;

async function showNotes() {
	const ask = async () => {
		part("[data-text=said]").textContent = "";
		part("[data-text=said]").textContent = await (await request("GET", "/api/notes")).text();
	};
	show("notes", {who: who()}, {ask});
	return ask();
}

const when = time => new Date(time).toLocaleString();

async function showAccount(done = "") {
	const [{emails}, {identities}, {sessions}] = await Promise.all(
		["emails", "identities", "sessions"].map(list => call("GET", `account/${list}`)));
	show("account", {who: who()});
	put("identities", ...emails.map(({email}) => element("li", `Email: ${email}`)));
	for (const i of identities) {
		const item = element("li", `${i.label}: ${i.account || "connected"}`);
		if (!i.last_way_in && !i.current) {
			item.append(button(`Disconnect ${i.label}`, () => change("disconnect", i.id)));
		}
		put("identities", item);
	}
	for (const {id, label} of providers()) {
		put("connect", button(`Connect ${label}`, () => change("connect", id)));
	}
	for (const s of sessions) {
		const item = element("li", `${s.device || "A device"}, at ${s.site}, since ${when(s.created)}`);
		item.append(s.current ? element("small", "this one") : button(`End ${s.device || "it"}`, () => change("end", s.id)));
		put("sessions", item);
	}
	part("[data-text=done]").textContent = done;
}

// changes are what one may do here to one's account.
const changes = {
	connect: async provider => become(await call("POST", "intents", {provider, intent: "link", return: here()})),
	disconnect: async id => {
		await call("DELETE", `account/identities/${id}`);
		return showAccount("Disconnected.");
	},
	end: async id => {
		await call("DELETE", `account/sessions/${id}`);
		return showAccount("That session has ended.");
	},
};

// change changes the account: at once, or after a fresh sign-in.
async function change(name, about) {
	try {
		await changes[name](about);
	} catch (e) {
		if (e.code !== "fresh_sign_in_required") {
			throw e;
		}
		then = [name, about];
		await showAgain();
	}
}

// showAgain has somebody prove that it is still them.
async function showAgain() {
	const {identities} = await call("GET", "account/identities");
	show("again");
	if (metadata.policy.email && session.email) {
		put("ways", button(`Mail a code to ${session.email}`, async () => become(await call("POST", "account/fresh", {}))));
	}
	for (const i of identities) {
		put("ways", button(`Sign in with ${i.label}`, async () => become(await call("POST", "account/fresh", {provider: i.provider, return: here()}))));
	}
	put("ways", button("Leave it", showHome));
}

async function leave() {
	const {logout_url} = await call("DELETE", "session?return=" + encodeURIComponent(here()));
	if (logout_url) {
		location.assign(logout_url);
		return;
	}
	session = null;
	showSignIn();
}

// --- The beginning ---------------------------------------------------------

// start goes on with what was begun before the browser left, once.
async function start() {
	metadata = await call("GET", "metadata");
	const begun = JSON.parse(sessionStorage.getItem("begun"));
	sessionStorage.removeItem("begun");
	if (!begun) {
		return showHome();
	}
	then = begun.then;
	const became = await call("POST", "intents/validate", {intent: begun.intent});
	return became.status === "redirect_to_provider" ? showHome() : become(became);
}

// Whoever comes back from a provider by the Back button begins anew.
addEventListener("pageshow", event => event.persisted && location.reload());
document.getElementById("leave").addEventListener("click", () => run(leave));
run(start);
