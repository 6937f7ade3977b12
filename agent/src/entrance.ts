import type { Audit } from '@sepia/base/audit';
import type { NamedUpstream } from '@sepia/base/names/upstream-name';
import type { AccessAnswer } from '@sepia/cluster/api/access';
import type { Cluster } from '@sepia/cluster/cluster';
import { AccessTokens } from '@sepia/face/access/access-tokens';
import type { BasicCredentials } from '@sepia/face/access/authorization';
import { LoginGuard } from '@sepia/face/access/login-guard';
import { AccessRules } from '@sepia/face/access/rules';
import { Door, type DoorOptions } from '@sepia/face/door/door';
import { UpstreamAccess } from '@sepia/face/door/upstream-access';
import type { AccessClient } from './cluster/access-client.ts';

interface EntranceParts {
  readonly cluster: Cluster;
  readonly clusterKey: Uint8Array;
  readonly asking: AccessClient;
  readonly audit: Audit;
  readonly nowMs: () => number;
  readonly dateMs: () => number;
}

/** Makes the door of each listener: they share what is known of who may read what. */
export function entranceOf(
  parts: EntranceParts,
): (upstreams: () => readonly NamedUpstream[], options: DoorOptions) => Door {
  const { cluster, clusterKey, asking, audit, nowMs, dateMs } = parts;
  const { accounts } = cluster.document;
  const guard = new LoginGuard({ nowMs });
  const shared = {
    cluster,
    tokens: new AccessTokens({ clusterKey, nowMs: dateMs }),
    rules: accounts === undefined ? undefined : new AccessRules(accounts),
    access: new UpstreamAccess({ ask: (...asked) => asking.check(...asked), nowMs }),
    askBase: (upstream: string) => asking.base(upstream),
    isOwnAccount: (username: string) => asking.isOwnAccount(username),
    showPassword: (
      upstream: string,
      { username, password }: BasicCredentials,
      address: string,
      ask: () => Promise<AccessAnswer>,
    ) => guard.show({ account: `${upstream}\n${username}`, address, password }, ask),
    login: (...given: Parameters<AccessClient['login']>) => asking.login(...given),
    audit,
    nowMs,
    dateMs,
  };
  return (upstreams, options) => new Door({ ...shared, upstreams }, options);
}
