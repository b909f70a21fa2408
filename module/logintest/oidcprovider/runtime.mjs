// What oidc-provider expects of its runtime and an older Node.js, as Linux
// distributions ship it, does not have yet. Node.js 22 needs none of this.
import * as crypto from 'node:crypto';
import { register } from 'node:module';

globalThis.crypto ??= crypto.webcrypto;

URL.parse ??= (input, base) => {
  try {
    return new URL(input, base);
  } catch {
    return null;
  }
};

if (crypto.hash === undefined) {
  register(`data:text/javascript,${encodeURIComponent(hooks())}`, import.meta.url);
}

// hooks is the source of a loader that gives importers a node:crypto with
// hash(): a builtin's exported names cannot be added to.
function hooks() {
  const withHash = `
    export * from 'node:crypto';
    import { createHash } from 'node:crypto';
    export const hash = (algorithm, data, encoding = 'hex') =>
      createHash(algorithm).update(data).digest(encoding);`;
  const url = `data:text/javascript,${encodeURIComponent(withHash)}`;
  return `
    const patched = ${JSON.stringify(url)};
    export function resolve(specifier, context, next) {
      if (specifier === 'node:crypto' && context.parentURL !== patched) {
        return { url: patched, format: 'module', shortCircuit: true };
      }
      return next(specifier, context);
    }`;
}
