import { randomBytes } from 'node:crypto';
import { invalidWire } from './frames.ts';
import {
  NONCE_BYTES,
  PROOF_BYTES,
  proofMatches,
  type Transcript,
  type WireRole,
  wireProof,
} from './wire-auth.ts';
import * as ext from './wire-extensions.ts';

/** Who talks on this wire, as the handshake told. Ids have 20 bytes each. */
export interface Ends {
  readonly peerId: Uint8Array;
  readonly theirPeerId: Uint8Array;
  readonly swarmId: Uint8Array;
}

/** How far the two ends of a wire proved the cluster key to each other: nothing → their nonce known → proven. */
export class MemberProof {
  readonly nonce: Uint8Array = randomBytes(NONCE_BYTES);
  readonly #clusterKey: Uint8Array;
  readonly #role: WireRole;
  #hello: ext.MemberHello | undefined;
  /** Ids under which the other end takes our extension messages. */
  ids: Record<ext.ExtensionName, number> | undefined;

  constructor(clusterKey: Uint8Array, role: WireRole) {
    this.#clusterKey = clusterKey;
    this.#role = role;
  }

  /** Their extension handshake came. Returns our proof. @throws `WIRE_INVALID` */
  onHello(payload: Uint8Array, ends: Ends | undefined): Uint8Array {
    if (this.#hello !== undefined || ends === undefined)
      throw invalidWire('extension handshake twice or early');
    const { hello, ids } = ext.readHello(payload);
    this.#hello = hello;
    this.ids = ids;
    return wireProof(this.#clusterKey, this.#role, this.#transcript(hello, ends));
  }

  /** Their proof came. Returns what they told of themselves. @throws `WIRE_INVALID` */
  onProof(payload: Uint8Array, ends: Ends | undefined): ext.MemberHello {
    const hello = this.#hello;
    if (hello === undefined || ends === undefined || payload.length !== PROOF_BYTES)
      throw invalidWire('proof out of order');
    const other = this.#role === 'dialer' ? 'listener' : 'dialer';
    const expected = wireProof(this.#clusterKey, other, this.#transcript(hello, ends));
    if (!proofMatches(expected, payload)) throw invalidWire('cluster key not proven');
    return hello;
  }

  #transcript(hello: ext.MemberHello, ends: Ends): Transcript {
    const dialing = this.#role === 'dialer';
    return {
      dialerNonce: dialing ? this.nonce : hello.nonce,
      listenerNonce: dialing ? hello.nonce : this.nonce,
      dialerPeerId: dialing ? ends.peerId : ends.theirPeerId,
      listenerPeerId: dialing ? ends.theirPeerId : ends.peerId,
      swarmId: ends.swarmId,
    };
  }
}
