// Finding who answers a request, and asking until the answer is final.
//
//   request ─→ whom? ─┬─ the leader that the cache names: this node's core, or a connection
//                     └─ nobody known: this node, or the next endpoint in turn
//   answer  ─→ final ──────────────────────────────────────────────→ caller
//           └→ nothing was done (not leader, stale epoch, overloaded, unavailable)
//                     └─ learn from it, wait a little if it taught nothing, ask again
//
// Invariant: a write is sent again only after a refusal that proves it was not appended anywhere. A write
// of a session may be sent again whatever became of it: regions carry it out once (RULES 75). Then only a
// result is final; a refusal says nothing of what was sent before it.

internal import Synchronization
internal import UkehiBase
internal import UkehiEnvironment
internal import UkehiNode
internal import UkehiState

/// One request's fixed part.
struct EngineRequest: Sendable {
    var operation: ClientOperation
    var key: Bytes
    var isWrite: Bool
    /// A write that is carried out once, however often it is sent.
    var isOfSession = false
    /// Where the only node is that can answer.
    var address: String?
    /// A read that any replica may answer.
    var anyReplica = false
}

/// Routes and repeats requests; shared by all tasks of a ``Node`` or ``Client``.
final class RequestEngine: Sendable {
    /// Whom to ask.
    private enum Target: Hashable {
        case local
        case remote(String)
    }

    private let local: NodeCore?
    private let links: ClientLinks
    private let endpoints: [String]
    private let clock: any NodeClock
    let cache = Mutex(RangeCache())
    private let turn = Atomic<Int>(0)
    private let isStopped = Atomic<Bool>(false)
    /// Tasks that are handing a request to the local node right now.
    private let submitting = Atomic<Int>(0)

    /// - Parameters:
    ///   - local: This process's node, asked first; nil for a client elsewhere.
    ///   - endpoints: Where to begin when nothing is known.
    init(local: NodeCore?, endpoints: [String], links: ClientLinks, clock: any NodeClock) {
        self.local = local
        self.endpoints = endpoints
        self.links = links
        self.clock = clock
    }

    /// Refuses what comes from now on and closes the connections; what waits for one is answered.
    ///
    /// On return no request is on its way into the local node, so that none can slip in behind the
    /// node's own stop and wait for ever.
    func stop() async {
        isStopped.store(true, ordering: .sequentiallyConsistent)
        while submitting.load(ordering: .sequentiallyConsistent) > 0 { await Task.yield() }
        await links.stop()
    }

    /// The deadline `timeout` from now.
    func deadline(_ timeout: Duration) -> MonotonicTime {
        // Of a negative duration both parts are.
        guard timeout > .zero else { return clock.now() }
        let (seconds, attoseconds) = timeout.components
        let nanoseconds = UInt64(min(seconds, 1 << 32)) * 1_000_000_000
        return clock.now() + (nanoseconds + UInt64(attoseconds) / 1_000_000_000)
    }

    /// Asks until the answer is final or the deadline has passed.
    func perform(_ request: EngineRequest, until deadline: MonotonicTime) async throws(RequestError)
        -> Reply
    {
        guard request.key.count <= CommandLimits.maxKeyBytes else {
            throw .rejected(.invalid(CommandError.keyTooLong.description))
        }
        var attempt = 0
        /// Why the attempts so far came to nothing: says more than that time ran out.
        var reason: RequestError.Rejection?
        /// A write was sent, and nobody has said what became of it.
        var isUnknown = false
        func failure(_ refusal: RequestError.Rejection) -> RequestError {
            isUnknown ? .outcomeUnknown : .rejected(refusal)
        }
        while true {
            guard !isStopped.load(ordering: .relaxed) else { throw failure(Self.stopped) }
            let target = choose(request)
            let attemptEnds = request.isOfSession ? patience(until: deadline) : deadline
            let reply = await ask(target, request, deadline: attemptEnds)
            let refusal: RequestError.Rejection
            switch reply {
            case .failed(.rejected(let rejection)): refusal = rejection
            case .command(.staleEpoch): refusal = .staleEpoch(current: [])
            case .failed(.outcomeUnknown):
                // A read that got no answer can be asked again; a write cannot, but in a session.
                if request.isWrite {
                    guard request.isOfSession else { throw .outcomeUnknown }
                    isUnknown = true
                }
                forget(target, request)
                refusal = .unavailable("A node did not answer.")
            // What was sent before may have been carried out, and nobody knows it any more.
            case .command(.sessionExpired) where isUnknown: throw .outcomeUnknown
            default: return reply
            }
            let isNews: Bool
            switch refusal {
            case .invalid, .sessionExpired: throw failure(refusal)
            case .notSplit(let why):
                guard why.passes else { throw failure(refusal) }
                reason = refusal
                isNews = false
            case .diskFull:
                guard isUnknown else { throw .rejected(refusal) }
                isNews = false
            case .timedOut:
                guard attemptEnds < deadline else { throw failure(reason ?? .timedOut) }
                forget(target, request)
                isNews = false
            case .notLeader(let info): isNews = await learn(info, from: target, deadline)
            case .staleEpoch(let regions):
                cache.withLock { cache in for info in regions { cache.insert(info) } }
                isNews = !regions.isEmpty
            case .overloaded: isNews = false
            case .unavailable:
                forget(target, request)
                reason = refusal
                isNews = false
            }
            attempt += 1
            // News are followed at once, but two nodes that name each other are not asked in a spin.
            let pause = isNews && attempt <= 2 ? 0 : backOff(attempt)
            guard clock.now() + pause < deadline, !Task.isCancelled else {
                throw failure(refusal)
            }
            if pause > 0 { try? await Task.sleep(for: .nanoseconds(Int64(pause))) }
        }
    }

    /// When to stop waiting for one node's answer to what can be asked again: half of the time is left for
    /// others.
    private func patience(until deadline: MonotonicTime) -> MonotonicTime {
        let now = clock.now()
        guard now < deadline else { return deadline }
        return now + max((deadline - now) / 2, min(deadline - now, Self.leastPatience))
    }
    private static let leastPatience: UInt64 = 100_000_000

    /// Sleeps a little before attempt number `attempt`; false if that would end behind the deadline.
    func pause(before attempt: Int, until deadline: MonotonicTime) async -> Bool {
        let pause = backOff(attempt)
        guard clock.now() + pause < deadline, !Task.isCancelled else { return false }
        try? await Task.sleep(for: .nanoseconds(Int64(pause)))
        return true
    }

    /// Time left until `deadline`, in nanoseconds.
    func nanoseconds(until deadline: MonotonicTime) -> UInt64 {
        let now = clock.now()
        return now < deadline ? deadline - now : 0
    }

    /// The wall clock, in milliseconds since 1970.
    var wallMilliseconds: UInt64 { clock.wallNanoseconds() / 1_000_000 }

    /// Whether this is the node of this process.
    func isOwn(_ node: NodeID) -> Bool { local?.nodeID == node }

    /// The region that holds `key`, or the next one above it, as far as known.
    func knownRegion(atOrAbove key: Bytes) -> RegionInfo? {
        cache.withLock { $0.regionAtOrAbove(key) }
    }

    /// Asks one node for its view of the cluster.
    func refresh(until deadline: MonotonicTime) async throws(RequestError) -> Topology {
        let request = EngineRequest(operation: .topology, key: Bytes(), isWrite: false)
        guard case .topology(let topology) = try await perform(request, until: deadline) else {
            throw .rejected(.unavailable("the node answered something else"))
        }
        cache.withLock { $0.replace(topology) }
        return topology
    }

    // MARK: Whom

    private func choose(_ request: EngineRequest) -> Target {
        if let address = request.address { return .remote(address) }
        if local != nil, request.anyReplica { return .local }
        if case .topology = request.operation { return anyone() }
        let known: (leader: NodeID, address: String?)? = cache.withLock { cache in
            guard let region = self.region(of: request, in: cache) else { return nil }
            if let leader = region.leader { return (leader, cache.address(of: leader)) }
            // Nobody is known to lead it: whoever holds it knows more than others.
            guard let node = holder(of: region) else { return nil }
            return (node, cache.address(of: node))
        }
        guard let known else { return anyone() }
        if let local, local.nodeID == known.leader { return .local }
        return known.address.map { .remote($0) } ?? anyone()
    }

    private func region(of request: EngineRequest, in cache: RangeCache) -> RegionInfo? {
        if case .members(let id, _) = request.operation { return cache.region(id) }
        return cache.region(of: request.key)
    }

    /// A node that holds the region, another one each time; nil: where one begins does, which comes round,
    /// too, since all that hold it may be gone for good.
    private func holder(of region: RegionInfo) -> NodeID? {
        guard !region.nodes.isEmpty else { return nil }
        if let own = local?.nodeID, region.nodes.contains(own) { return nil }
        let position = turn.wrappingAdd(1, ordering: .relaxed).oldValue
        let place = Int(position.magnitude % UInt(region.nodes.count + 1))
        return place < region.nodes.count ? region.nodes[place] : nil
    }

    private func anyone() -> Target {
        if local != nil { return .local }
        let position = turn.wrappingAdd(1, ordering: .relaxed).oldValue
        return .remote(endpoints[Int(position.magnitude % UInt(endpoints.count))])
    }

    private func ask(
        _ target: Target, _ request: EngineRequest, deadline: MonotonicTime
    ) async -> Reply {
        let sink = OneReply()
        let sent = ClientRequest(
            operation: request.operation, key: request.key, deadline: deadline, sink: sink, tag: 0)
        switch target {
        case .local: submitLocally(sent)
        case .remote(let address): links.send(sent, to: address)
        }
        let reply = await sink.value()
        if case .topology(let topology) = reply { remember(topology, from: target) }
        return reply
    }

    /// Asks the node at one address, once: only the caller knows what a second time would mean.
    func ask(
        _ operation: ClientOperation, at address: String, timeout: Duration
    ) async throws(RequestError) -> Reply {
        let reply = await ask(
            .remote(address), EngineRequest(operation: operation, key: Bytes(), isWrite: false),
            deadline: deadline(timeout))
        if case .failed(let error) = reply { throw error }
        return reply
    }

    private func submitLocally(_ request: ClientRequest) {
        submitting.wrappingAdd(1, ordering: .sequentiallyConsistent)
        defer { submitting.wrappingSubtract(1, ordering: .sequentiallyConsistent) }
        if let local, !isStopped.load(ordering: .sequentiallyConsistent) {
            local.submit(request)
        } else {
            request.sink.reply(.failed(.rejected(Self.stopped)), tag: request.tag)
        }
    }

    private static let stopped = RequestError.Rejection.unavailable("It was stopped.")

    // MARK: Learning

    /// Takes a refusal's region; whether it names somebody else to ask.
    private func learn(
        _ info: RegionInfo, from target: Target, _ deadline: MonotonicTime
    ) async -> Bool {
        let isReachable = cache.withLock { cache in
            cache.insert(info)
            guard let leader = info.leader else { return false }
            return leader == local?.nodeID || cache.address(of: leader) != nil
        }
        if isReachable { return true }
        if info.leader == nil {
            // Whoever holds it may know more, if it can be found.
            let isFound = cache.withLock { cache in
                info.nodes.contains { cache.address(of: $0) != nil }
            }
            if isFound { return false }
        }
        // Nodes are known by id only: ask whoever said so for the addresses.
        let request = EngineRequest(operation: .topology, key: Bytes(), isWrite: false)
        let reply = await ask(target, request, deadline: deadline)
        guard case .topology = reply else { return false }
        return info.leader != nil
    }

    private func remember(_ topology: Topology, from target: Target) {
        var topology = topology
        if case .remote(let address) = target,
            let own = topology.nodes.firstIndex(where: { $0.node == topology.node })
        {
            // Whatever the node calls itself, this is where it was reached.
            topology.nodes[own].address = address
        }
        cache.withLock { $0.replace(topology) }
    }

    private func forget(_ target: Target, _ request: EngineRequest) {
        guard case .remote(let address) = target else { return }
        cache.withLock { cache in
            // Its node may be elsewhere now: whoever names it next is asked where.
            cache.forget(address: address)
            if case .members(let id, _) = request.operation { return cache.forgetLeader(of: id) }
            cache.forgetLeader(of: request.key)
        }
    }

    /// Nanoseconds to wait before another try: 1 ms, doubled to 64 ms, give or take a half.
    private func backOff(_ attempt: Int) -> UInt64 {
        let step = UInt64(1_000_000) << UInt64(min(attempt - 1, 6))
        return UInt64.random(in: step / 2...step * 3 / 2)
    }
}
