// The key-value operations in terms of requests; the same for a node and a client.

internal import UkehiBase
internal import UkehiEnvironment
internal import UkehiNode
internal import UkehiState

extension RequestEngine {
    func run(_ command: Command, timeout: Duration) async throws(RequestError) -> CommandResult {
        try await run(command, CommandRecord.Options(), until: deadline(timeout))
    }

    /// Runs a command as one of a session, where the options name one.
    func run(
        _ command: Command, _ options: CommandRecord.Options, until deadline: MonotonicTime
    ) async throws(RequestError) -> CommandResult {
        let record: Bytes
        do { record = try command.encoded(options: options) } catch {
            throw .rejected(.invalid(error.description))
        }
        let request = EngineRequest(
            operation: .write(record: record), key: command.key, isWrite: true,
            isOfSession: options.session != nil)
        let reply = try await perform(request, until: deadline)
        guard case .command(let result) = reply else { throw unexpected }
        return result
    }

    func get(
        _ key: Bytes, mode: ReadMode, timeout: Duration
    ) async throws(RequestError) -> VersionedValue? {
        let request = EngineRequest(
            operation: .get(mode), key: key, isWrite: false, anyReplica: mode == .stale)
        let reply = try await perform(request, until: deadline(timeout))
        guard case .value(let value) = reply else { throw unexpected }
        return value
    }

    func query(
        _ body: Bytes, key: Bytes, mode: ReadMode, timeout: Duration
    ) async throws(RequestError) -> Bytes {
        let request = EngineRequest(
            operation: .query(body, mode), key: key, isWrite: false, anyReplica: mode == .stale)
        let reply = try await perform(request, until: deadline(timeout))
        guard case .query(let answer) = reply else { throw unexpected }
        return answer
    }

    func scan(
        from lower: Bytes, to upper: Bytes?, limit: Int, mode: ReadMode, timeout: Duration
    ) async throws(RequestError) -> ScanPage {
        let upper = upper ?? Bytes()
        var found = ScanPage(pairs: [], next: lower)
        guard limit > 0, upper.isEmpty || lower < upper else {
            return ScanPage(pairs: [], next: nil)
        }
        let deadline = deadline(timeout)
        // Region by region; a page that is cut short by its size goes on in the same region.
        while let from = found.next, found.pairs.count < limit {
            let operation = ClientOperation.scan(
                upper: upper, limit: limit - found.pairs.count, mode)
            let request = EngineRequest(
                operation: operation, key: from, isWrite: false, anyReplica: mode == .stale)
            guard case .scan(let page) = try await perform(request, until: deadline) else {
                throw unexpected
            }
            found.pairs += page.pairs
            if let next = page.next, next <= from { throw unexpected }
            found.next = page.next
        }
        return found
    }

    private var unexpected: RequestError {
        .rejected(.unavailable("The node answered something else than was asked."))
    }
}
