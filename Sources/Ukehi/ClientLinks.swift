// One connection per node, made when first needed and made anew when it broke.
//
//   no link ─ request ─→ connecting, requests wait ─→ open ─ breaks ─→ no link
//                                ├─ fails ─→ no link; those that waited are refused
//                                └─ a deadline passes: that request is refused, the others wait on

internal import NIOCore
internal import NIOPosix
internal import Synchronization
internal import UkehiEnvironment
internal import UkehiNode
internal import UkehiTransport

/// The connections of one client. All methods are thread-safe.
///
/// Each request is answered once: by the node, by the connection when it breaks or the deadline
/// passes, or here.
final class ClientLinks: Sendable {
    private enum Link {
        case connecting(Waiting)
        case open(ClientConnection)
    }
    private struct Waiting {
        var requests: [ClientRequest]
        /// When the next look for passed deadlines is due: at the earliest of them, or before.
        var lookAt: MonotonicTime
    }
    private struct State {
        var links: [String: Link] = [:]
        var isStopped = false
    }
    /// Requests that wait for one connection to be made; more are refused as overloaded.
    private static let maxWaiting = 4096

    private let state = Mutex(State())
    private let clock: any NodeClock
    private let label: String

    /// `label` names this client in nodes' logs.
    init(clock: any NodeClock, label: String) {
        self.clock = clock
        self.label = label
    }

    /// Sends a request to the node at `address`.
    func send(_ request: ClientRequest, to address: String) {
        enum Step {
            case submit(ClientConnection)
            case refuse(RequestError.Rejection)
            case connect
            case wait(lookAt: MonotonicTime?)
        }
        let step: Step = state.withLock { state in
            guard !state.isStopped else { return .refuse(.unavailable("The client was stopped.")) }
            switch state.links[address] {
            case .open(let connection) where connection.isOpen: return .submit(connection)
            case .connecting(var waiting):
                guard waiting.requests.count < Self.maxWaiting else {
                    return .refuse(.overloaded)
                }
                // Taken out first, so that appending copies nothing.
                state.links[address] = nil
                waiting.requests.append(request)
                let isFirst = request.deadline < waiting.lookAt
                if isFirst { waiting.lookAt = request.deadline }
                state.links[address] = .connecting(waiting)
                return .wait(lookAt: isFirst ? request.deadline : nil)
            case .open, nil:
                state.links[address] = .connecting(
                    Waiting(requests: [request], lookAt: request.deadline))
                return .connect
            }
        }
        switch step {
        case .submit(let connection): connection.submit(request)
        case .refuse(let rejection): refuse([request], rejection)
        case .connect:
            Task.detached { [self] in await connect(address) }
            look(address, at: request.deadline)
        case .wait(let lookAt): if let lookAt { look(address, at: lookAt) }
        }
    }

    /// Closes all connections; requests in flight are answered before this returns.
    func stop() async {
        let links = state.withLock { state in
            state.isStopped = true
            defer { state.links = [:] }
            return state.links.values.map { $0 }
        }
        for link in links {
            switch link {
            case .open(let connection): await connection.close()
            case .connecting(let waiting):
                refuse(waiting.requests, .unavailable("The client was stopped."))
            }
        }
    }

    private func connect(_ address: String) async {
        let connection: ClientConnection
        do {
            guard let target = EndpointText(address) else {
                throw RequestError.rejected(.invalid("\"\(address)\" is no host:port."))
            }
            connection = try await ClientConnection.connect(
                host: target.host, port: target.port,
                on: MultiThreadedEventLoopGroup.singleton.next(), clock: clock, label: label)
        } catch {
            let waiting = settle(address, as: nil) ?? []
            refuse(waiting, .unavailable("No node answers at \(address): \(error)."))
            return
        }
        // Nobody waits any more when the client was stopped meanwhile.
        guard let waiting = settle(address, as: connection) else { return await connection.close() }
        for request in waiting { connection.submit(request) }
    }

    /// Ends the connecting state; gives those that waited, or nil if it was ended by a stop.
    private func settle(_ address: String, as connection: ClientConnection?) -> [ClientRequest]? {
        state.withLock { state in
            guard case .connecting(let waiting) = state.links[address] else { return nil }
            state.links[address] = connection.map { .open($0) }
            return waiting.requests
        }
    }

    /// Looks at `time` for requests whose deadline has passed while they waited for a connection. They
    /// were sent to nobody.
    private func look(_ address: String, at time: MonotonicTime) {
        let delay = time - clock.now()
        MultiThreadedEventLoopGroup.singleton.next().scheduleTask(
            in: .nanoseconds(Int64(clamping: delay))
        ) { [self] in refuseLate(address) }
    }

    private func refuseLate(_ address: String) {
        let now = clock.now()
        var late: [ClientRequest] = []
        let next: MonotonicTime? = state.withLock { state in
            guard case .connecting(var waiting) = state.links[address] else { return nil }
            // The timer's clock is another one, and may be a little early.
            guard waiting.lookAt <= now else {
                return waiting.requests.isEmpty ? nil : waiting.lookAt
            }
            late = waiting.requests.filter { $0.deadline <= now }
            waiting.requests.removeAll { $0.deadline <= now }
            let next = waiting.requests.map(\.deadline).min()
            // With nobody left, any request to come is the earliest.
            waiting.lookAt = next ?? MonotonicTime(nanoseconds: .max)
            state.links[address] = .connecting(waiting)
            return next
        }
        refuse(late, .timedOut)
        if let next { look(address, at: next) }
    }

    private func refuse(_ requests: [ClientRequest], _ rejection: RequestError.Rejection) {
        for request in requests {
            request.sink.reply(.failed(.rejected(rejection)), tag: request.tag)
            request.sink.flush()
        }
    }
}
