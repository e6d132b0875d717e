// One connection per node, made when first needed and made anew when it broke.
//
//   no link ─ request ─→ connecting, requests wait ─→ open ─ breaks ─→ no link
//                                └─ fails ─→ no link; those that waited are refused

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
        case connecting([ClientRequest])
        case open(ClientConnection)
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
            case wait
        }
        let step: Step = state.withLock { state in
            guard !state.isStopped else { return .refuse(.unavailable("The client was stopped.")) }
            switch state.links[address] {
            case .open(let connection) where connection.isOpen: return .submit(connection)
            case .connecting(var waiting):
                guard waiting.count < Self.maxWaiting else { return .refuse(.overloaded) }
                // Taken out first, so that appending copies nothing.
                state.links[address] = nil
                waiting.append(request)
                state.links[address] = .connecting(waiting)
                return .wait
            case .open, nil:
                state.links[address] = .connecting([request])
                return .connect
            }
        }
        switch step {
        case .submit(let connection): connection.submit(request)
        case .refuse(let rejection): refuse([request], rejection)
        case .connect: Task.detached { [self] in await connect(address) }
        case .wait: break
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
                refuse(waiting, .unavailable("The client was stopped."))
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
            let waiting = settle(address, as: nil)
            refuse(waiting, .unavailable("No node answers at \(address): \(error)."))
            return
        }
        let isWanted = state.withLock { !$0.isStopped }
        guard isWanted else { return await connection.close() }
        for request in settle(address, as: connection) { connection.submit(request) }
    }

    /// Ends the connecting state; gives those that waited.
    private func settle(_ address: String, as connection: ClientConnection?) -> [ClientRequest] {
        state.withLock { state in
            guard case .connecting(let waiting) = state.links[address] else { return [] }
            state.links[address] = connection.map { .open($0) }
            return waiting
        }
    }

    private func refuse(_ requests: [ClientRequest], _ rejection: RequestError.Rejection) {
        for request in requests {
            request.sink.reply(.failed(.rejected(rejection)), tag: request.tag)
            request.sink.flush()
        }
    }
}
