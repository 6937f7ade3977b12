import { matcherOf, type NameMatcher } from '@sepia/base/names/pattern';
import {
  type AccessMode,
  type AccessRule,
  type AccountsDocument,
  accessOf,
} from '@sepia/cluster/accounts-document';
import type { Cluster } from '@sepia/cluster/cluster';

/** What may be done to a repository; tokens have words of their own for it, {@link TOKEN_ACTIONS}. */
export type Action = 'read' | 'write' | 'delete';

/** Actions of the token specification, by ours; `*` in a scope means all. */
export const TOKEN_ACTIONS = { read: 'pull', write: 'push', delete: 'delete' } as const satisfies Record<
  Action,
  string
>;

/** Who decides about the repositories of the upstream `name`. @throws {CodedError} `UPSTREAM_UNKNOWN` */
export function accessMode(cluster: Cluster, name: string): AccessMode {
  return accessOf(cluster.upstream(name), cluster.document.accounts !== undefined);
}

/** The rules of the cluster document: the first that fits account and repository decides. Pure. */
export class AccessRules {
  readonly #accounts: AccountsDocument;
  readonly #rules: readonly { readonly rule: AccessRule; readonly matches: NameMatcher }[];

  constructor(accounts: AccountsDocument) {
    this.#accounts = accounts;
    this.#rules = accounts.rules.map((rule) => ({ rule, matches: matcherOf(rule.repositories) }));
  }

  /** What an account may do (undefined: nobody logged in). Behind the last rule stands `anonymous-pull`. */
  allowed(
    account: string | undefined,
    target: { readonly upstream: string; readonly repository: string },
  ): ReadonlySet<Action> {
    const found = this.#rules.find(
      ({ rule, matches }) =>
        (rule.upstream === undefined || rule.upstream === target.upstream) &&
        this.#fits(rule, account) &&
        matches(target.repository),
    );
    if (found !== undefined) return new Set(found.rule.actions);
    return new Set(this.#accounts['anonymous-pull'] ? ['read'] : []);
  }

  /** True if no rule withholds reading of anything of an upstream from an account: it may see every name. */
  readsAll(account: string | undefined, upstream: string): boolean {
    for (const { rule } of this.#rules) {
      if ((rule.upstream !== undefined && rule.upstream !== upstream) || !this.#fits(rule, account)) continue;
      if (!rule.actions.includes('read')) return false;
      if (rule.repositories.includes('**')) return true;
    }
    return this.#accounts['anonymous-pull'];
  }

  #fits(rule: AccessRule, account: string | undefined): boolean {
    const { groups } = this.#accounts;
    return rule.who.some((who) => {
      if (account === undefined) return who === 'anonymous';
      if (who === '*') return true;
      if (who === 'anonymous') return false;
      if (!who.startsWith('group:')) return who === account;
      const group = who.slice('group:'.length);
      return Object.hasOwn(groups, group) && groups[group]!.includes(account);
    });
  }
}
