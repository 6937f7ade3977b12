import type { Socket } from 'node:net';
import type { ConnectionOptions, TlsOptions } from 'node:tls';
import type { Encryption } from '@sepia/base/config/encryption';
import { hmacOf } from '@sepia/base/hmac';

const IDENTITY = 'sepia-tls-1';

/**
 * TLS 1.3 with a key that is drawn from the cluster key in place of certificates (RFC 8446 2.2, PSK with (EC)DHE): each side
 * proves that it has the key, what is recorded cannot be read by who gets the key later, and nothing has to be made or
 * renewed for a node. The one suite goes with SHA-256, as keys of this kind do: by another a server would show a certificate.
 */
const SUITE = { minVersion: 'TLSv1.3', ciphers: 'TLS_AES_128_GCM_SHA256' } as const;

/** The part of one member in the encryption between members. */
export interface MemberEncryption {
  /** Options of a connection to a member; undefined: it is dialled in plain. */
  readonly client: ConnectionOptions | undefined;
  /** Options of the handshake with a member that dials. */
  readonly server: TlsOptions;
  /** Members that dial in plain are refused. */
  readonly isRequired: boolean;
}

/** Connections that came with the cluster key. */
const byKey = new WeakSet<Socket>();

/** True for a connection of a member that is encrypted by the cluster key: to who is at its other end this is an `http:` address. */
export function isByClusterKey(socket: Socket): boolean {
  return byKey.has(socket);
}

/** What a policy means for who holds `clusterKey`; undefined for `off`: members know no TLS among themselves. */
export function memberEncryption(policy: Encryption, clusterKey: Uint8Array): MemberEncryption | undefined {
  if (policy === 'off') return undefined;
  const psk = hmacOf(clusterKey, IDENTITY);
  const client: ConnectionOptions = {
    ...SUITE,
    pskCallback: () => ({ psk, identity: IDENTITY }),
    // Node asks this where a certificate was shown, and never where the key was: whoever has none of the key is no member, whatever
    // authority vouches for him, and whatever this process trusts.
    rejectUnauthorized: true,
    checkServerIdentity: () => new Error('it showed a certificate in place of the cluster key'),
  };
  return {
    client: policy === 'accept' ? undefined : client,
    server: {
      ...SUITE,
      pskCallback: (socket, identity) => {
        if (identity !== IDENTITY) return null;
        byKey.add(socket);
        return psk;
      },
    },
    isRequired: policy === 'require',
  };
}
