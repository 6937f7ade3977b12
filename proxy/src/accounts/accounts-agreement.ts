import { askAll } from '@sepia/base/async/ask-many';
import { throwIfBug } from '@sepia/base/failure';
import { delay } from '@sepia/base/lifecycle';
import type { Logger } from '@sepia/base/log';
import { PROXY } from '@sepia/cluster/api/proxy';
import { to } from '@sepia/cluster/api/route';
import type { Cluster } from '@sepia/cluster/cluster';
import type { InternalClient } from '@sepia/http/client';
import { AGREEMENT_EVERY_MS, AGREEMENT_FIRST_MS, AGREEMENT_MS } from '../deadlines.ts';

interface AgreementDeps {
  readonly selfId: string;
  readonly cluster: Cluster;
  readonly client: InternalClient;
  readonly fingerprint: () => string;
  readonly log: Logger;
}

/**
 * Compares the accounts of all proxies: a password that is right at one must be right at all. Files may differ for a
 * moment while they are replaced; each look that finds a difference says so in the log and in `differing`.
 */
export class AccountsAgreement {
  readonly #deps: AgreementDeps;
  #differing: readonly string[] = [];

  constructor(deps: AgreementDeps) {
    this.#deps = deps;
  }

  /** Ids of proxies with other accounts, as of the last look. */
  get differing(): readonly string[] {
    return this.#differing;
  }

  /** Looks until the signal aborts. */
  async watch(signal: AbortSignal): Promise<void> {
    try {
      for (let waitMs = AGREEMENT_FIRST_MS; ; waitMs = AGREEMENT_EVERY_MS) {
        await delay(waitMs, signal);
        await this.look(signal);
      }
    } catch (error) {
      throwIfBug(error);
      // Stopping.
    }
  }

  async look(signal: AbortSignal): Promise<void> {
    const { selfId, cluster, fingerprint, log } = this.#deps;
    const others = cluster.members('proxy').filter(({ id }) => id !== selfId);
    const own = fingerprint();
    const said = await askAll(others, async ({ id, urls }) => await this.#of(id, urls[0]!, signal));
    // Who does not answer differs in nothing that is known.
    this.#differing = said.flatMap((one) => (one.type === 'answer' && one.answer !== own ? [one.by.id] : []));
    if (this.#differing.length > 0)
      log.error(
        { proxies: this.#differing },
        'accounts-file is another than at these proxies; logins depend on which one is asked',
      );
  }

  /** Fingerprint of another proxy. */
  async #of(id: string, url: string, signal: AbortSignal): Promise<string> {
    const { accounts } = await this.#deps.client.json<{ accounts?: string }>({
      url,
      to: id,
      ...to(PROXY.status, { self: true }),
      headersTimeoutMs: AGREEMENT_MS,
      signal,
    });
    return accounts ?? 'none';
  }
}
