# Caddy with a sign-in, as an image. In a checkout of this repository:
#
#	docker build -f xcaddy.Dockerfile -t caddy-login .
#	docker run -p 80:80 -p 443:443 -p 443:443/udp \
#		-v login_data:/data -v login_config:/config \
#		-v "$PWD/conf":/etc/caddy:ro \
#		-e GOOGLE_CLIENT_ID -e GOOGLE_CLIENT_SECRET \
#		caddy-login
#
# /etc/caddy
#          Your Caddyfile's folder. Mount the folder, not the file: many editors
#          replace a file, and the container goes on seeing the old one.
# /data    Keep it, and back it up: users, sessions and keys lie in
#          /data/caddy/login, certificates beside it. Without a volume a new
#          container knows nobody and signs everybody out. It must be a local
#          disk, not a network share, and belongs to one container at a time:
#          stop the old one before you start the new one.
# /config  Caddy's last config, for `caddy run --resume`. It may go.
# 80       sends browsers on to https, and proves to the certificate authority
#          that the host is yours
# 443      the sites: tcp for HTTP/1.1 and HTTP/2, udp for HTTP/3
#
# Environment: what your Caddyfile names, such as {env.OIDC_CLIENT_SECRET}.
# Secrets that come as files are {file./run/secrets/oidc}. A change of the
# Caddyfile needs no restart, and keeps everybody signed in:
#
#	docker exec -w /etc/caddy <container> caddy reload

# The version that our tests run with. It is the one in go.mod.
ARG CADDY_VERSION=2.11.9

FROM caddy:${CADDY_VERSION}-builder AS builder
ARG CADDY_VERSION
# The same source makes the same program, wherever it is built.
ENV GOFLAGS=-trimpath
WORKDIR /src
COPY go.mod go.sum ./
COPY caddyfile caddyfile
COPY module module
COPY plugin plugin
# --with names a package, --replace the module that holds it: --with
# …/plugin=/src/plugin would look for a go.mod there.
RUN xcaddy build v${CADDY_VERSION} \
	--output /usr/bin/caddy \
	--with github.com/caddy-login/caddy-login/plugin \
	--replace github.com/caddy-login/caddy-login=/src

# Its entry point, volumes and ports are Caddy's.
FROM caddy:${CADDY_VERSION}
COPY --from=builder /usr/bin/caddy /usr/bin/caddy
