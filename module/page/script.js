"use strict";

/*
 * What the pages of signing in by email do for those who have scripts: send a
 * pasted code, wait for the link, count down. Without it all of that takes a
 * click more. It makes no markup, keeps nothing, and asks nobody but the page's
 * own site.
 */
(() => {
	const forms = name => document.querySelectorAll("form[data-" + name + "]");

	// A form goes out once, however often it is asked to. After ten seconds it
	// may go again: then the person stopped it, or the network lost it.
	let sentAt = 0;
	const leaving = () => Date.now() - sentAt < 10000;
	document.addEventListener("submit", event => {
		if (leaving()) event.preventDefault();
		else sentAt = Date.now();
	});
	addEventListener("pageshow", event => {
		if (event.persisted) sentAt = 0;
	});

	// A code that comes at once was pasted or filled in: it goes out. One that is
	// typed waits for its person, whom a slip would cost an attempt.
	const takeCode = form => {
		const field = form.elements.namedItem("code"), wanted = Number(form.dataset.code);
		const digits = () => (field.value.normalize("NFKC").match(/\p{Nd}/gu) || []).join("");
		let had = digits().length;
		field.addEventListener("input", () => {
			const code = digits(), came = [...code].length - had;
			had += came;
			if (came < 2 || had !== wanted) return;
			field.value = code;
			form.requestSubmit();
		});
	};

	// Asks whether the link was used: less and less often, never once the code is
	// too old, and not while nobody looks.
	const waitForLink = form => {
		const address = form.getAttribute("action"), began = Date.now();
		const end = began + Number(form.dataset.seconds) * 1000;
		let timer = 0, asked = 0;
		const later = () => {
			clearTimeout(timer);
			const pause = Math.min(10, 2 + (Date.now() - began) / 30000) * 1000;
			if (!document.hidden && Date.now() + pause < end) timer = setTimeout(ask, pause);
		};
		const ask = async () => {
			asked = Date.now();
			const said = leaving() ? {} : await answer(address);
			if (leaving() || !goOn(address, said)) later();
		};
		document.addEventListener("visibilitychange", () => {
			if (document.hidden || Date.now() - asked < 1000 || Date.now() >= end) later();
			else ask();
		});
		later();
	};

	const answer = async address => {
		try {
			const said = await fetch(address, { headers: { Accept: "application/json" }, cache: "no-store", redirect: "error" });
			return said.ok ? await said.json() : {};
		} catch {
			return {};
		}
	};

	// Moves on where there is anything new, and only ever to a path of this site.
	// The page that said it was over is not asked again by itself.
	const goOn = (address, said) => {
		if (said.status === "done" && /^\/(?![/\\])/.test(said.to)) {
			location.replace(said.to);
			return true;
		}
		if (said.status === "over" && !location.search.includes("over=1")) {
			location.replace(address + "?over=1");
			return true;
		}
		return said.status === "over";
	};

	const countDown = form => {
		const button = form.querySelector("button"), label = button.textContent, note = document.getElementById("resend-in");
		const ready = Date.now() + Number(form.dataset.resend) * 1000;
		const tick = () => {
			const left = Math.ceil((ready - Date.now()) / 1000);
			button.disabled = left > 0;
			button.textContent = left > 0 ? label + " (" + left + ")" : label;
			if (left > 0) setTimeout(tick, 250);
		};
		if (note) note.hidden = true;
		tick();
	};

	// Who comes back to the page wants to see it, and a page that is drawn ahead
	// of a click was not opened by anybody yet.
	const follow = form => {
		const [visit] = performance.getEntriesByType("navigation");
		if (visit && visit.type === "back_forward") return;
		if (document.prerendering) document.addEventListener("prerenderingchange", () => form.requestSubmit(), { once: true });
		else form.requestSubmit();
	};

	forms("code").forEach(takeCode);
	forms("seconds").forEach(waitForLink);
	forms("resend").forEach(countDown);
	forms("follow").forEach(follow);
})();
