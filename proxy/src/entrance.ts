import { type Audit, openAudit } from '@sepia/base/audit';
import type { Logger } from '@sepia/base/log';
import type { Cluster } from '@sepia/cluster/cluster';
import { takesPushes } from '@sepia/cluster/write-back';
import { AccessTokens } from '@sepia/face/access/access-tokens';
import { AccessRules, accessMode } from '@sepia/face/access/rules';
import { Door } from '@sepia/face/door/door';
import { UpstreamAccess } from '@sepia/face/door/upstream-access';
import { withOwnHosts } from '@sepia/face/own-hosts';
import type { InternalClient } from '@sepia/http/client';
import { Accounts } from './accounts/accounts.ts';
import { AccountsAgreement } from './accounts/accounts-agreement.ts';
import { Logins } from './accounts/logins.ts';
import { OriginAccess } from './accounts/origin-access.ts';
import type { Origins } from './cluster/origins.ts';
import type { ProxyConfig } from './config.ts';

interface EntranceParts {
  readonly id: string;
  readonly config: ProxyConfig;
  readonly cluster: Cluster;
  readonly clusterKey: Uint8Array;
  readonly client: InternalClient;
  readonly origins: Origins;
  readonly log: Logger;
  readonly nowMs: () => number;
  /** The cluster's date, which may be set. */
  readonly dateMs: () => number;
}

/** Everything about who may come in, shared by all listeners of a proxy. */
export interface Entrance {
  readonly audit: Audit;
  readonly logins: Logins;
  door(listener: ProxyConfig['listeners'][number]): Door;
  /** Fingerprint of the accounts, for the other proxies; undefined without accounts. */
  fingerprint(): string | undefined;
  /** Proxies with other accounts, as of the last look. */
  differing(): readonly string[];
  /** Compares accounts with the other proxies until the signal aborts. */
  watch(signal: AbortSignal): Promise<void>;
}

/** Reads the accounts and builds the doors. @throws {CodedError} `CONFIG_INVALID` */
export function openEntrance(parts: EntranceParts): Entrance {
  const { id, config, cluster, clusterKey, log, nowMs, dateMs } = parts;
  const audit = openAudit({ service: 'proxy', id, log }, config['audit-log']);
  const own = ownAccounts(parts);
  const named = withOwnHosts(cluster.upstreams, cluster.defaultUpstream, config.listeners);
  const tokens = new AccessTokens({ clusterKey, nowMs: dateMs });
  const asking = new OriginAccess({ origins: parts.origins });
  const logins = new Logins({ cluster, tokens, origins: asking, audit, nowMs, dateMs, own });
  const agreement =
    own === undefined
      ? undefined
      : new AccountsAgreement({
          selfId: id,
          cluster,
          client: parts.client,
          fingerprint: () => own.accounts.fingerprint,
          log,
        });
  tellWhoMayCome(cluster, own?.accounts.size, log);
  const deps = {
    cluster,
    upstreams: () => named,
    tokens,
    rules: own?.rules,
    access: new UpstreamAccess({ ask: (...asked) => asking.check(...asked), nowMs }),
    askBase: (upstream: string) => asking.base(upstream),
    login: (...given: Parameters<Logins['login']>) => logins.login(...given),
    verifyBasic: (...given: Parameters<Logins['verify']>) => logins.verify(...given),
    isGone: (username: string) => own?.accounts.isGone(username) === true,
    isOwnAccount: logins.isOwn,
    showPassword: (...given: Parameters<Logins['shown']>) => logins.shown(...given),
    audit,
    nowMs,
    dateMs,
  };
  return {
    audit,
    logins,
    door: (listener) =>
      new Door(deps, {
        defaultUpstream: listener['default-upstream'] ?? cluster.defaultUpstream,
        publicUrl: listener['public-url'],
      }),
    fingerprint: () => own?.accounts.fingerprint,
    differing: () => agreement?.differing ?? [],
    watch: async (signal) => await agreement?.watch(signal),
  };
}

/** A config that was checked has both, rules and passwords, or neither. */
function ownAccounts({ config, cluster, clusterKey, log, nowMs }: EntranceParts) {
  const { accounts: document } = cluster.document;
  const file = config['accounts-file'];
  if (document === undefined || file === undefined) return undefined;
  return {
    accounts: new Accounts({ log, nowMs, clusterKey }, file),
    rules: new AccessRules(document),
    tokenLifeMs: document['token-life'],
  };
}

function tellWhoMayCome(cluster: Cluster, accounts: number | undefined, log: Logger): void {
  const open = cluster.upstreams.filter(({ name }) => accessMode(cluster, name) === 'cluster');
  const pushable = open.filter(({ mode }) => takesPushes(mode)).map(({ name }) => name);
  if (accounts !== undefined) log.info({ accounts }, 'clients log in; rules come from the cluster document');
  if (pushable.length > 0)
    log.warn(
      { upstreams: pushable },
      'no accounts for these upstreams: whoever reaches this proxy may pull and push; see docs/auth.md',
    );
}
