// Serves one native client: requests in, replies out in any order, both bounded.
//
//   frame ─ requests ─▶ slot each ─▶ TransportEvents.submit      (over the bounds: `overloaded`)
//   any thread ─ reply(tag) ─▶ ConnectionSink ─ one hop per flush ─▶ frame of replies

import NIOCore
import Synchronization
import UkehiBase
import UkehiEnvironment
import UkehiNode
import UkehiState

/// Confined to its connection's event loop.
final class ClientService {
    private struct Slot {
        var id: UInt64
        var frame: Int
        var isUsed: Bool
    }

    /// A frame of requests: all of its memory is held until the last of them is answered.
    private struct HeldFrame {
        var bytes: Int
        var open: Int
    }

    /// Replies above this size get a frame of their own, whatever else waits.
    private static let largeReply = 64 << 10
    /// Replies above this size may be turned away when the client reads too slowly.
    private static let smallReply = 1 << 10

    private unowned let wire: WireHandler
    private let events: any TransportEvents
    private let clock: any NodeClock
    private let sink: ConnectionSink
    private var slots: [Slot] = []
    private var freeSlots: [Int] = []
    private var frames: [HeldFrame] = []
    private var freeFrames: [Int] = []
    /// Of the frames that are held.
    private var heldBytes = 0
    private var lastRequestAt: NIODeadline
    private var writer = ByteWriter(chunkCapacity: 16 << 10)

    init?(wire: WireHandler, events: any TransportEvents, clock: any NodeClock) {
        guard let loop = wire.eventLoop else { return nil }
        self.wire = wire
        self.events = events
        self.clock = clock
        lastRequestAt = wire.now
        sink = ConnectionSink(loop: loop, maxBytes: wire.limits.maxPendingReplyBytes)
        sink.service = self
    }

    /// While requests are handed over, replies wait for the end of the read: one frame for all.
    private(set) var isReceiving = false

    private var inflight: Int { slots.count - freeSlots.count }

    func received(_ payload: Bytes) throws(WireError) {
        isReceiving = true
        lastRequestAt = wire.now
        let now = clock.now()
        let frame = hold(payload.count)
        // Its own share, so that it is not let go of before all of it was looked at.
        defer { release(frame) }
        do throws(DecodeError) {
            try RequestCodec.decode(payload) { request, _ in admit(request, frame, now) }
        } catch {
            throw WireError(error, in: "requests frame")
        }
    }

    private func hold(_ bytes: Int) -> Int {
        heldBytes += bytes
        let held = HeldFrame(bytes: bytes, open: 1)
        guard let free = freeFrames.popLast() else {
            frames.append(held)
            return frames.count - 1
        }
        frames[free] = held
        return free
    }

    private func release(_ frame: Int) {
        frames[frame].open -= 1
        guard frames[frame].open == 0 else { return }
        heldBytes -= frames[frame].bytes
        freeFrames.append(frame)
    }

    /// Sends what was answered while the requests of one read were handed over.
    func burstEnded() {
        isReceiving = false
        sink.drain()
        sendReplies()
    }

    private func admit(_ request: WireRequest, _ frame: Int, _ now: MonotonicTime) {
        wire.report.received(requests: 1)
        let limits = wire.limits
        guard inflight < limits.maxInflightRequests,
            inflight == 0 || heldBytes <= limits.maxInflightRequestBytes
        else {
            refuse(request, .overloaded)
            return
        }
        var deadline = MonotonicTime(nanoseconds: .max)
        if request.deadlineMicroseconds > 0 {
            let (nanoseconds, overflow) =
                request.deadlineMicroseconds.multipliedReportingOverflow(by: 1000)
            deadline = now + (overflow ? .max : nanoseconds)
        }
        let slot = Slot(id: request.id, frame: frame, isUsed: true)
        frames[frame].open += 1
        let tag: Int
        if let free = freeSlots.popLast() {
            slots[free] = slot
            tag = free
        } else {
            tag = slots.count
            slots.append(slot)
        }
        events.submit(
            ClientRequest(
                operation: request.operation, key: request.key, expected: request.expected,
                deadline: deadline, sink: sink, tag: UInt64(tag)))
    }

    private func refuse(_ request: WireRequest, _ rejection: RequestError.Rejection) {
        wire.report.refusedRequest()
        append(.failed(.rejected(rejection)), id: request.id)
    }

    /// Replies that the sink has collected.
    func deliver(_ replies: [(tag: UInt64, reply: Reply)]) {
        for (tag, reply) in replies {
            guard let index = Int(exactly: tag), slots.indices.contains(index),
                slots[index].isUsed
            else { continue }
            slots[index].isUsed = false
            release(slots[index].frame)
            freeSlots.append(index)
            append(reply, id: slots[index].id)
        }
        sendReplies()
    }

    private func append(_ reply: Reply, id: UInt64) {
        let start = writer.count
        ReplyCodec.encode(reply, id: id, into: &writer)
        let bytes = writer.count - start
        let isLarge = bytes > ClientService.largeReply
        if isLarge || (bytes > ClientService.smallReply && !wire.isWritable) {
            let substitute = substitute(for: reply, of: bytes)
            if isLarge || substitute != nil {
                writer.truncate(to: start)
                // A large reply and those before it may not fit in one frame together.
                sendReplies()
                ReplyCodec.encode(substitute ?? reply, id: id, into: &writer)
            }
        }
        if writer.count >= wire.limits.batchBytes { sendReplies() }
    }

    /// What to say in place of a reply that this client cannot be sent.
    private func substitute(for reply: Reply, of bytes: Int) -> Reply? {
        let limits = wire.limits
        let isTooLarge = bytes > limits.maxPayload
        guard isTooLarge || wire.pendingBytes + bytes > limits.maxPendingReplyBytes else {
            return nil
        }
        // The command of a `command` reply was applied: saying otherwise could repeat it.
        if case .command = reply { return isTooLarge ? .failed(.outcomeUnknown) : nil }
        return .failed(
            .rejected(
                isTooLarge
                    ? .invalid("The answer of \(bytes) bytes does not fit in a frame.")
                    : .overloaded))
    }

    private func sendReplies() {
        guard writer.count > 0 else { return }
        let isLarge = writer.count > wire.limits.batchBytes
        writer.withUnsafeBytes { raw in
            wire.send(.replies, payloadBytes: raw.count) { $0.put(raw) }
        }
        writer.discard()
        if isLarge { writer = ByteWriter(chunkCapacity: 16 << 10) }
    }

    func tick(_ now: NIODeadline) throws(WireError) {
        if inflight == 0, now - lastRequestAt >= wire.limits.clientIdleTimeout {
            throw WireError(.ended, "no request for a long time")
        }
    }

    func closed() { sink.service = nil }
}

/// Collects replies from any thread for one connection.
///
/// Safety: replies are guarded by the mutex; `service` is touched on the event loop only.
final class ConnectionSink: ReplySink, @unchecked Sendable {
    private struct State {
        var replies: [(tag: UInt64, reply: Reply)] = []
        /// What they hold of stored data.
        var bytes = 0
        var isHopping = false
    }
    private let loop: any EventLoop
    private let state = Mutex(State())
    private let maxBytes: Int
    weak var service: ClientService?

    init(loop: any EventLoop, maxBytes: Int) {
        self.loop = loop
        self.maxBytes = maxBytes
    }

    /// What was read is not kept past the bound: all of a lane's pass is answered before anything leaves.
    override func reply(_ reply: Reply, tag: UInt64) {
        let bytes = reply.readBytes
        state.withLock { state in
            // One alone is judged by whoever sends it.
            guard bytes > 0, state.bytes > 0, state.bytes + bytes > maxBytes else {
                state.bytes += bytes
                state.replies.append((tag, reply))
                return
            }
            state.replies.append((tag, .failed(.rejected(.overloaded))))
        }
    }

    override func flush() {
        if loop.inEventLoop {
            if service?.isReceiving != true { drain() }
            return
        }
        let hops = state.withLock { state in
            if state.isHopping || state.replies.isEmpty { return false }
            state.isHopping = true
            return true
        }
        if hops { loop.execute { self.drain() } }
    }

    /// On the event loop.
    func drain() {
        let replies = take()
        if !replies.isEmpty { service?.deliver(replies) }
    }

    /// What was collected.
    func take() -> [(tag: UInt64, reply: Reply)] {
        state.withLock { state in
            state.isHopping = false
            let replies = state.replies
            state.replies = []
            state.bytes = 0
            return replies
        }
    }
}

extension Reply {
    /// Bytes of what was read, about; 0: it is small, or must not be put in another one's place.
    fileprivate var readBytes: Int {
        switch self {
        case .value(let value): value?.value.count ?? 0
        case .scan(let page): page.byteCount
        case .query(let bytes), .recovery(let bytes): bytes.count
        case .topology(let topology): 64 * (topology.regions.count + topology.nodes.count)
        default: 0
        }
    }
}
