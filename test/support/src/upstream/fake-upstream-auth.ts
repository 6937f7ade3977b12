import { randomBytes } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';

/** How a fake upstream wants to be asked. */
export type FakeAuth =
  | { readonly type: 'none' }
  | { readonly type: 'basic'; readonly username: string; readonly password: string }
  | {
      readonly type: 'token';
      /** Without a user everybody gets tokens. */
      readonly username?: string;
      readonly password?: string;
      /** Anonymous callers get tokens too. */
      readonly anonymous?: boolean;
      readonly expiresInSeconds?: number;
      /** A refused token is answered by a Basic challenge, as Harbor does. */
      readonly harborQuirk?: boolean;
      /** Scope named in the challenge, where it is another than the repository's. */
      readonly scope?: string;
      /** What the challenge says in place of the scope that is wanted. */
      readonly saysScope?: string;
      /** Passwords of several users, in place of one; who is none of them is anonymous. */
      readonly users?: Readonly<Record<string, string>>;
      /** Whether somebody (undefined: anonymous) may pull a repository; tokens grant only what they may. */
      readonly mayPull?: (user: string | undefined, repository: string) => boolean;
    };

interface Grant {
  readonly scopes: readonly string[];
  readonly expiresAtMs: number;
}

/** Gives and checks tokens, checks Basic; one per fake upstream. */
export class FakeAuthority {
  readonly #auth: FakeAuth;
  readonly #grants = new Map<string, Grant>();
  /** Where tokens are given. */
  realm = '';

  constructor(auth: FakeAuth) {
    this.#auth = auth;
  }

  /** This `Authorization` is refused from now on. */
  revoke(authorization: string): void {
    this.#grants.delete(authorization.slice('Bearer '.length));
  }

  /** All tokens given so far are refused from now on. */
  revokeTokens(): void {
    this.#grants.clear();
  }

  /** Answers 401 and returns false unless the request may pass. */
  admit(req: IncomingMessage, res: ServerResponse, repository: string | undefined): boolean {
    const auth = this.#auth;
    const sent = req.headers.authorization;
    if (auth.type === 'none') return true;
    if (auth.type === 'basic')
      return sent === basicOf(auth) || refuse(res, 'Basic realm="fake, with a comma"');
    const asked = auth.scope ?? (repository === undefined ? undefined : `repository:${repository}:pull`);
    const grant = this.#grants.get(sent?.startsWith('Bearer ') === true ? sent.slice(7) : '');
    const known = grant !== undefined && grant.expiresAtMs > Date.now();
    const wanted = asked?.split(' ') ?? [];
    if (known && wanted.every((one) => grant.scopes.includes(one))) return true;
    if (sent !== undefined && auth.harborQuirk === true) return refuse(res, 'Basic realm="harbor"');
    const said = auth.saysScope ?? asked;
    const scope = said === undefined ? '' : `,scope="${said}"`;
    return refuse(res, `Bearer realm="${this.realm}",service="fake,registry"${scope}`);
  }

  /** The token endpoint. */
  serveToken(req: IncomingMessage, res: ServerResponse, url: URL): void {
    const auth = this.#auth;
    if (auth.type !== 'token') return void res.writeHead(404).end();
    if (auth.users !== undefined) return void this.#serveUser(auth, auth.users, req, res, url);
    const named =
      auth.username !== undefined &&
      req.headers.authorization === basicOf({ username: auth.username, password: auth.password ?? '' });
    const mayPass =
      named ||
      auth.username === undefined ||
      (auth.anonymous === true && req.headers.authorization === undefined);
    if (!mayPass || url.searchParams.get('service') !== 'fake,registry') {
      res
        .writeHead(401, { 'content-type': 'application/json' })
        .end('{"errors":[{"code":"UNAUTHORIZED","message":"no token"}]}');
      return;
    }
    this.#give(res, auth.expiresInSeconds ?? 300, url.searchParams.getAll('scope'));
  }

  /** As Docker Hub: wrong credentials are 401, right ones get what they may, others the public rest. */
  #serveUser(
    auth: Extract<FakeAuth, { type: 'token' }>,
    users: Readonly<Record<string, string>>,
    req: IncomingMessage,
    res: ServerResponse,
    url: URL,
  ): void {
    const sent = req.headers.authorization;
    const user = Object.keys(users).find(
      (username) => sent === basicOf({ username, password: users[username]! }),
    );
    if (sent !== undefined && user === undefined) {
      res
        .writeHead(401, { 'content-type': 'application/json' })
        .end('{"errors":[{"code":"UNAUTHORIZED","message":"wrong password"}]}');
      return;
    }
    const scopes = url.searchParams.getAll('scope').filter((scope) => {
      const repository = /^repository:(.+):pull(?:,push)?$/.exec(scope)?.[1];
      return repository !== undefined && auth.mayPull?.(user, repository) === true;
    });
    this.#give(
      res,
      auth.expiresInSeconds ?? 300,
      scopes.map((scope) => scope.replace(/,push$/, '')),
    );
  }

  #give(res: ServerResponse, lifetime: number, scopes: readonly string[]): void {
    const token = randomBytes(24).toString('base64url');
    this.#grants.set(token, { scopes, expiresAtMs: Date.now() + lifetime * 1000 });
    res.writeHead(200, { 'content-type': 'application/json' });
    res.end(JSON.stringify({ token, expires_in: lifetime, issued_at: new Date().toISOString() }));
  }
}

function basicOf(auth: { readonly username: string; readonly password: string }): string {
  return `Basic ${Buffer.from(`${auth.username}:${auth.password}`).toString('base64')}`;
}

function refuse(res: ServerResponse, challenge: string): false {
  res.writeHead(401, { 'www-authenticate': challenge, 'content-type': 'application/json' });
  res.end('{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}');
  return false;
}
