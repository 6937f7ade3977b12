import { type Counter, Metrics } from '@sepia/base/metrics';

/** Figures of a proxy, beside those that every service has. */
export class ProxyMetrics {
  readonly base: Metrics;
  readonly bytesOut: Counter;
  readonly resumes: Counter;

  constructor(id: string) {
    this.base = new Metrics('proxy', id);
    this.bytesOut = this.base.counter('sepia_proxy_bytes_total', 'Bytes of blobs sent to clients.');
    this.resumes = this.base.counter(
      'sepia_proxy_blob_resumes_total',
      'Blobs whose rest was taken from another origin.',
    );
  }

  /** Figures that are read when asked for. */
  watch(name: string, help: string, read: () => number): void {
    this.base.gauge(name, help, read);
  }
}
