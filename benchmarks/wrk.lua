-- Makes wrk send the request that is in the environment, and print the result as one line of JSON.
wrk.method = os.getenv("METHOD")
if os.getenv("BODY") then
    local file = io.open(os.getenv("BODY"), "rb")
    wrk.body = file:read("*a")
    wrk.headers["Content-Type"] = os.getenv("TYPE")
    file:close()
end
if os.getenv("KEY") ~= "" then
    wrk.headers["X-API-Key"] = os.getenv("KEY")
end

function done(summary, latency, requests)
    local errors = summary.errors
    print(string.format('{"requests": %d, "seconds": %f, "p50": %f, "p99": %f, "errors": %d}',
        summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
        errors.status + errors.connect + errors.read + errors.write + errors.timeout))
end
