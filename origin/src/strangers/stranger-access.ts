import { CodedError } from '@sepia/base/errors';
import type { BlobName } from '@sepia/base/names/blob-name';
import type { AccessAnswer, AccessItem } from '@sepia/cluster/api/access';
import type { Cluster } from '@sepia/cluster/cluster';
import { AccessRules, accessMode } from '@sepia/face/access/rules';

interface StrangerAccessDeps {
  readonly cluster: Cluster;
  /** What the upstream says of a client without credentials. */
  readonly check: (name: BlobName, item: AccessItem, authorization: undefined) => Promise<AccessAnswer>;
}

/** Which blobs standard BitTorrent clients may have, by policy `strangers` of the cluster document. */
export class StrangerAccess {
  readonly #deps: StrangerAccessDeps;
  readonly #rules: AccessRules | undefined;

  constructor(deps: StrangerAccessDeps) {
    this.#deps = deps;
    const { accounts } = deps.cluster.document;
    this.#rules = accounts === undefined ? undefined : new AccessRules(accounts);
  }

  /**
   * Resolves where the policy lets strangers have a blob under this name. By `public-repositories` that is where rules of
   * accounts let the anonymous read, where there are no accounts in mode none, and where the upstream itself serves it
   * to nobody in particular, whatever the credentials of the origins can.
   * @throws {CodedError} `AUTH_DENIED`; what the upstream says of the blob; `BACKEND_DOWN` while it does not answer
   */
  async require(name: BlobName): Promise<void> {
    const { cluster, check } = this.#deps;
    const policy = cluster.document.policies.strangers;
    if (policy === 'always') return;
    if (policy === 'never') throw denied('strangers: never (this cluster serves its members only)', name);
    const { mode } = cluster.upstream(name.upstream);
    const decides = accessMode(cluster, name.upstream);
    if (decides === 'accounts') {
      if (this.#rules?.allowed(undefined, name).has('read') === true) return;
      throw denied('strangers: public-repositories, and no rule lets the anonymous read this one', name);
    }
    if (mode === 'none') return;
    const { verdict } = await check(name, { kind: 'blob', digest: name.digest }, undefined);
    if (verdict !== 'public')
      throw denied('strangers: public-repositories, and the upstream does not serve this one to all', name);
  }
}

function denied(message: string, { upstream, repository }: BlobName): CodedError {
  return new CodedError('AUTH_DENIED', { message, detail: { upstream, repository } });
}
