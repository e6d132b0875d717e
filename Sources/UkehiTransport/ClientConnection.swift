// The client's end of the native protocol: many requests in flight on one connection.
//
//   any thread ─ submit ─▶ queue ─ one hop ─▶ loop: slot each, one frame per turn ─▶ node
//   loop ◀─ frame of replies ─ slot by id ─▶ sink.reply, then sink.flush
//
// When the connection ends, each request is answered once: what was not sent, and each read, is
// `rejected(unavailable)` and safe to ask again; a write that was sent is `outcomeUnknown`
// (RULES 75). The same happens to one request whose deadline passes (`timedOut`, `outcomeUnknown`).

import Logging
package import NIOCore
import NIOPosix
import Synchronization
package import UkehiBase
package import UkehiEnvironment
package import UkehiNode

/// A connection of a client to one node. All methods are thread-safe.
///
/// Safety: `queue` is guarded by its mutex; `session` is touched on the event loop only.
package final class ClientConnection: @unchecked Sendable {
    private struct Queue {
        var requests: [ClientRequest] = []
        var isHopping = false
    }

    package let eventLoop: any EventLoop
    /// What the node said of itself.
    package let node: Hello
    private let channel: any Channel
    private let session: ClientSession
    private let maxQueued: Int
    private let queue = Mutex(Queue())

    private init(channel: any Channel, session: ClientSession, node: Hello, maxQueued: Int) {
        self.maxQueued = maxQueued
        eventLoop = channel.eventLoop
        self.channel = channel
        self.session = session
        self.node = node
    }

    /// Connects and shakes hands; `label` names this client in the node's logs.
    ///
    /// - Throws: A `WireError` with the reason, or what the network said.
    package static func connect(
        host: String, port: Int, on loop: any EventLoop, clock: any NodeClock,
        label: String = "client", limits: WireLimits = .standard
    ) async throws -> ClientConnection {
        // A client tells its caller what went wrong and logs nothing.
        let report = WireReport(
            logger: Logger(label: "ukehi.client") { _ in SwiftLogNoOpLogHandler() })
        let channel = try await WireChannels.client(
            on: loop, limits: limits, pendingBytes: limits.softPendingBytes
        )
        .channelInitializer { channel in
            channel.eventLoop.makeCompletedFuture {
                let session = ClientSession(
                    label: label, clock: clock, greeted: channel.eventLoop.makePromise())
                let handler = WireHandler(
                    session: session, limits: limits, report: report, accepted: false)
                try channel.pipeline.syncOperations.addHandler(handler)
            }
        }
        .connect(host: host, port: port)
        .get()
        return try await channel.eventLoop.flatSubmit {
            adopt(channel, limits)
        }.get()
    }

    /// Waits for the welcome; on the loop.
    private static func adopt(
        _ channel: any Channel, _ limits: WireLimits
    ) -> EventLoopFuture<ClientConnection> {
        let handler = try? channel.pipeline.syncOperations.handler(type: WireHandler.self)
        guard let session = handler?.session as? ClientSession else {
            return channel.eventLoop.makeFailedFuture(
                WireError(.network, "closed by the other side before it answered"))
        }
        let bound = NIOLoopBound(session, eventLoop: channel.eventLoop)
        return session.greeted.futureResult.map { node in
            ClientConnection(
                channel: channel, session: bound.value, node: node,
                maxQueued: limits.maxInflightRequests)
        }
    }

    package var isOpen: Bool { channel.isActive }

    /// Completes when the connection is closed, for whatever reason.
    package var closeFuture: EventLoopFuture<Void> { channel.closeFuture }

    /// Asks; the reply goes to the request's sink, once, on the event loop (`overloaded` at once, on
    /// the caller's thread, when too many wait to be sent).
    package func submit(_ request: ClientRequest) {
        if eventLoop.inEventLoop {
            session.submit(request)
            return
        }
        enum Outcome { case full, queued, hop }
        let outcome = queue.withLock { queue -> Outcome in
            guard queue.requests.count < maxQueued else { return .full }
            queue.requests.append(request)
            if queue.isHopping { return .queued }
            queue.isHopping = true
            return .hop
        }
        switch outcome {
        case .queued: break
        case .hop: eventLoop.execute { self.drain() }
        case .full:
            request.sink.reply(.failed(.rejected(.overloaded)), tag: request.tag)
            request.sink.flush()
        }
    }

    private func drain() {
        let requests = queue.withLock { queue in
            queue.isHopping = false
            let requests = queue.requests
            queue.requests = []
            return requests
        }
        for request in requests { session.submit(request) }
    }

    /// Asks; `completion` is called once, on the event loop.
    package func send(
        _ operation: ClientOperation, key: Bytes,
        expected: (region: RegionID, epoch: RegionEpoch)? = nil,
        deadline: MonotonicTime = MonotonicTime(nanoseconds: .max),
        completion: @escaping @Sendable (Reply) -> Void
    ) {
        submit(
            ClientRequest(
                operation: operation, key: key, expected: expected, deadline: deadline,
                sink: CompletionSink(completion), tag: 0))
    }

    /// Asks and waits for the reply.
    package func ask(
        _ operation: ClientOperation, key: Bytes,
        expected: (region: RegionID, epoch: RegionEpoch)? = nil,
        deadline: MonotonicTime = MonotonicTime(nanoseconds: .max)
    ) async -> Reply {
        await withCheckedContinuation { continuation in
            send(operation, key: key, expected: expected, deadline: deadline) {
                continuation.resume(returning: $0)
            }
        }
    }

    /// Closes; every request in flight is answered before this returns.
    package func close() async {
        _ = try? await eventLoop.submit { self.session.stop() }.get()
        _ = try? await channel.closeFuture.get()
    }
}

/// Safety: `@unchecked Sendable` by inheritance; the closure never changes and is Sendable.
private final class CompletionSink: ReplySink, @unchecked Sendable {
    private let completion: @Sendable (Reply) -> Void
    init(_ completion: @escaping @Sendable (Reply) -> Void) { self.completion = completion }
    override func reply(_ reply: Reply, tag: UInt64) { completion(reply) }
}
