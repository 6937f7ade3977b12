import type { TokenAnswer } from '@sepia/cluster/api/access';
import type { AccessTokens, Grant } from './access-tokens.ts';
import { type AccessRules, TOKEN_ACTIONS } from './rules.ts';
import { actionsOf, parseRepositoryScope } from './scope.ts';

/** Service of tokens that the cluster itself issues. */
export const OWN_SERVICE = 'sepia';

/** What the rules grant an account of the scopes it asks for; scopes without any right are left out. */
export function grantsFor(
  rules: AccessRules,
  account: string | undefined,
  upstream: string,
  scopes: readonly string[],
): Grant[] {
  return scopes.flatMap((scope) => {
    const parsed = parseRepositoryScope(scope);
    if (parsed === undefined) return [];
    const allowed = rules.allowed(account, { upstream, repository: parsed.name });
    const wanted = actionsOf(parsed.actions);
    const actions = (['read', 'write', 'delete'] as const)
      .filter((action) => wanted.has(action) && allowed.has(action))
      .map((action) => TOKEN_ACTIONS[action]);
    return actions.length === 0
      ? []
      : [{ upstream, type: 'repository' as const, name: parsed.name, actions }];
  });
}

/**
 * A token by which this cluster's members know `holder` for `lifeMs`, in the form of `/token`. `account` undefined: somebody who
 * did not log in.
 */
export async function issueToken(
  deps: { readonly tokens: AccessTokens; readonly nowMs: () => number },
  holder: { readonly account: string | undefined; readonly access: readonly Grant[] },
  lifeMs: number,
): Promise<TokenAnswer> {
  const issuedAt = new Date(deps.nowMs()).toISOString();
  const token = await deps.tokens.issue(holder, OWN_SERVICE, lifeMs);
  return { token, expires_in: Math.floor(lifeMs / 1000), issued_at: issuedAt };
}
