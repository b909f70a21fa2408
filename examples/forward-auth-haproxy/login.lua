-- http-request lua.login asks Caddy whether a request may pass, and puts its
-- answer into variables of the transaction: login_status, login_sign_in where a
-- person is to be sent to the sign-in, and login_<header> of what the app is told.

local address = os.getenv("LOGIN") or "http://127.0.0.1:9080"
local told = { "cookie", "remote-user", "remote-email", "remote-name", "remote-groups", "remote-roles", "remote-assertion" }

-- What a question must not carry on: the length of a body that it has not, and
-- what concerns the client's connection only.
local kept = { ["content-length"] = true, ["transfer-encoding"] = true, ["expect"] = true,
	["connection"] = true, ["keep-alive"] = true, ["te"] = true, ["trailer"] = true, ["upgrade"] = true }

local function question(txn)
	local headers = {}
	for name, values in pairs(txn.http:req_get_headers()) do
		if not kept[name] then
			headers[name] = {}
			for _, value in pairs(values) do
				table.insert(headers[name], value)
			end
		end
	end
	headers["x-forwarded-for"] = { txn.f:src() }
	headers["x-forwarded-proto"] = { "https" }
	headers["x-forwarded-host"] = headers["host"]
	headers["x-forwarded-method"] = { txn.f:method() }
	headers["x-forwarded-uri"] = { txn.f:pathq() }
	-- A client that describes itself in the other way must not be heard.
	headers["x-original-url"] = nil
	return headers
end

-- Without an answer the status stays 0, and nobody passes.
core.register_action("login", { "http-req" }, function(txn)
	txn:set_var("txn.login_status", 0)
	local answer = core.httpclient():get({ url = address .. "/.login/check", headers = question(txn), timeout = 5000 })
	if not answer or not answer.status then
		return
	end
	txn:set_var("txn.login_status", answer.status)
	local first = function(name)
		return answer.headers and answer.headers[name] and answer.headers[name][0]
	end
	if first("location") then
		txn:set_var("txn.login_sign_in", first("location"))
	end
	for _, name in ipairs(told) do
		if first(name) then
			txn:set_var("txn.login_" .. name:gsub("-", "_"), first(name))
		end
	end
end, 0)
