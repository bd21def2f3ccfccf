-- For wrk: its figures as one line of JSON. Latencies are in microseconds.
function done(summary, latency)
  local errors = summary.errors
  print(string.format(
    'figures {"requests": %d, "microseconds": %d, "bytes": %d, "p50": %d, "p99": %d, "p99.9": %d, ' ..
      '"errors": {"status": %d, "connect": %d, "read": %d, "write": %d, "timeout": %d}}',
    summary.requests, summary.duration, summary.bytes,
    latency:percentile(50), latency:percentile(99), latency:percentile(99.9),
    errors.status, errors.connect, errors.read, errors.write, errors.timeout))
end
