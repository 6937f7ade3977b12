/** The parts of bittorrent-protocol 5.0.9 that `shared/swarm/src/wire/wire.ts` uses or overrides; the version is pinned. */
declare module 'bittorrent-protocol' {
  // biome-ignore lint/style/noDefaultExport: that is how the module exports
  export default class Wire {
    constructor(type?: string, peEnabled?: 0 | 1 | 2);
    peerId: string | null;
    extendedHandshake: Record<string, unknown>;
    extendedMapping: Record<number, string>;
    peerExtendedMapping: Record<string, number>;
    peerExtendedHandshake: Record<string, unknown>;
    peerExtensions: { extended?: boolean; fast?: boolean; dht?: boolean };
    on(event: string, listener: (...args: never[]) => void): this;
    handshake(infoHash: Uint8Array, peerId: Uint8Array, extensions?: { fast?: boolean; dht?: boolean }): void;
    extended(name: string | number, payload: Uint8Array): void;
    keepAlive(): void;
    _message(id: number, numbers: readonly number[], data: Uint8Array | null): void;
    _push(data: Uint8Array): unknown;
    _onHandshakeBuffer(handshake: Uint8Array): void;
    _onHandshake(infoHash: Uint8Array, peerId: Uint8Array, extensions: object): void;
    _onMessage(message: Uint8Array): void;
    _debug(...args: unknown[]): void;
    _parseHandshake(): void;
    _onBitField(bytes: Uint8Array): void;
    _onHave(index: number): void;
    _onRequest(index: number, offset: number, length: number): void;
    _onCancel(index: number, offset: number, length: number): void;
    _onReject(index: number, offset: number, length: number): void;
    _onSuggest(index: number): void;
    _onExtended(id: number, payload: Uint8Array): void;
    _write(data: Uint8Array, callback: (error: Error | null) => void): void;
    end(): void;
  }
}
