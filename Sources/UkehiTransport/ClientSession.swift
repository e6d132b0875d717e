// What a client's connection has in flight. Confined to its event loop.

import NIOCore
import UkehiBase
import UkehiEnvironment
import UkehiNode

final class ClientSession: WireSession {
    private struct Slot {
        var request: ClientRequest?
        var bytes = 0
        /// In the upper half of the wire id: a reply that comes after its request was given up is
        /// not taken for another's.
        var generation: UInt32 = 0
        var isSent = false
    }

    /// The node's hello, or why there is none.
    let greeted: EventLoopPromise<Hello>
    private let label: String
    private let clock: any NodeClock
    private var isGreeted = false
    private var ended: WireError?
    private var slots: [Slot] = []
    private var freeSlots: [Int] = []
    private var inflightBytes = 0
    /// Filled slots to be sent at the end of this turn of the loop.
    private var unsent: [Int] = []
    private var isFlushScheduled = false
    /// When deadlines are looked at next.
    private var alarm: (time: MonotonicTime, task: Scheduled<Void>)?

    init(label: String, clock: any NodeClock, greeted: EventLoopPromise<Hello>) {
        self.label = label
        self.clock = clock
        self.greeted = greeted
    }

    override func opened() throws(WireError) {
        let hello = Hello(
            name: label, address: "", incarnation: Incarnation(0), cluster: nil, node: nil)
        wire?.send(.hello, Greeting(purpose: .client, hello: hello).encode())
    }

    override func received(_ frame: Frame) throws(WireError) {
        switch frame.type {
        case .welcome where !isGreeted:
            let greeting = try Greeting(decoding: frame.payload)
            isGreeted = true
            wire?.isEstablished = true
            greeted.succeed(greeting.hello)
        case .replies where isGreeted:
            do throws(DecodeError) {
                try deliver(frame.payload)
            } catch {
                throw WireError(error, in: "replies frame")
            }
        default:
            throw WireError(.malformed, "an unexpected \(frame.type) frame from a node")
        }
    }

    private func deliver(_ payload: Bytes) throws(DecodeError) {
        var last: ReplySink?
        defer { last?.flush() }
        try ReplyCodec.decode(payload) { id, reply in
            let index = Int(UInt32(truncatingIfNeeded: id))
            guard slots.indices.contains(index),
                slots[index].generation == UInt32(truncatingIfNeeded: id >> 32),
                let request = take(index)
            else { return }
            if let previous = last, previous !== request.sink { previous.flush() }
            last = request.sink
            request.sink.reply(reply, tag: request.tag)
        }
    }

    // MARK: Asking

    func submit(_ request: ClientRequest) {
        guard ended == nil, let wire else {
            let reason = ended.map { "closed: \($0)" } ?? "closed"
            answer(request, .failed(.rejected(.unavailable("The connection is \(reason)."))))
            return
        }
        let bytes = RequestCodec.bytes(of: wireRequest(request, id: 0, remaining: 0))
        let limits = wire.limits
        guard bytes + 4 <= limits.maxPayload else {
            answer(
                request,
                .failed(
                    .rejected(.invalid("A request of \(bytes) bytes does not fit in a frame."))))
            return
        }
        let inflight = slots.count - freeSlots.count
        guard inflight < limits.maxInflightRequests,
            inflight == 0 || inflightBytes + bytes <= limits.maxInflightRequestBytes
        else {
            answer(request, .failed(.rejected(.overloaded)))
            return
        }
        let index: Int
        if let free = freeSlots.popLast() {
            index = free
        } else {
            index = slots.count
            slots.append(Slot())
        }
        slots[index].request = request
        slots[index].bytes = bytes
        slots[index].isSent = false
        inflightBytes += bytes
        unsent.append(index)
        watch(request.deadline)
        scheduleFlush()
    }

    private func wireRequest(
        _ request: ClientRequest, id: UInt64, remaining: UInt64
    ) -> WireRequest {
        WireRequest(
            id: id, deadlineMicroseconds: remaining, operation: request.operation,
            key: request.key, expected: request.expected)
    }

    /// One frame per turn of the loop, however many were asked in it.
    private func scheduleFlush() {
        guard !isFlushScheduled, let loop = wire?.eventLoop else { return }
        isFlushScheduled = true
        loop.assumeIsolated().execute { self.flush() }
    }

    private func flush() {
        isFlushScheduled = false
        guard let wire else { return }
        let now = clock.now()
        var start = 0
        while start < unsent.count {
            var end = start
            var bytes = 4
            while end < unsent.count {
                let size = slots[unsent[end]].bytes
                guard end == start || bytes + size <= wire.limits.batchBytes else { break }
                bytes += size
                end += 1
            }
            wire.send(.requests, payloadBytes: bytes) { writer in
                writer.put(UInt32(end - start))
                for index in unsent[start..<end] { encode(index, now, into: &writer) }
            }
            start = end
        }
        unsent.removeAll(keepingCapacity: true)
    }

    private func encode(_ index: Int, _ now: MonotonicTime, into writer: inout RawWriter) {
        guard let request = slots[index].request else { return }
        slots[index].isSent = true
        var remaining: UInt64 = 0
        if request.deadline.nanoseconds != .max {
            remaining = max(1, (request.deadline - now) / 1000)
        }
        let id = UInt64(slots[index].generation) << 32 | UInt64(index)
        RequestCodec.encode(
            wireRequest(request, id: id, remaining: remaining), into: &writer)
    }

    // MARK: Answering

    private func answer(_ request: ClientRequest, _ reply: Reply) {
        request.sink.reply(reply, tag: request.tag)
        request.sink.flush()
    }

    /// Empties a slot; nil if it is empty.
    private func take(_ index: Int) -> ClientRequest? {
        guard let request = slots[index].request else { return nil }
        // Only a deadline that passed at once takes a slot before it was sent.
        if !slots[index].isSent { unsent.removeAll { $0 == index } }
        inflightBytes -= slots[index].bytes
        slots[index].request = nil
        slots[index].bytes = 0
        slots[index].generation &+= 1
        freeSlots.append(index)
        return request
    }

    /// Gives a request up, saying truthfully what may have become of it.
    private func giveUp(_ index: Int, _ rejection: RequestError.Rejection) {
        let isSent = slots[index].isSent
        guard let request = take(index) else { return }
        if case .write = request.operation, isSent {
            answer(request, .failed(.outcomeUnknown))
        } else {
            answer(request, .failed(.rejected(rejection)))
        }
    }

    private func watch(_ deadline: MonotonicTime) {
        guard deadline.nanoseconds != .max, let loop = wire?.eventLoop else { return }
        if let alarm {
            guard deadline < alarm.time else { return }
            alarm.task.cancel()
        }
        // Not more often than each 10 ms: the node judges deadlines, this only gives up on it.
        let wait = max(10_000_000, deadline - clock.now())
        let task = loop.assumeIsolated().scheduleTask(in: .nanoseconds(Int64(clamping: wait))) {
            self.expire()
        }
        alarm = (deadline, task)
    }

    private func expire() {
        alarm = nil
        let now = clock.now()
        var next = MonotonicTime(nanoseconds: .max)
        for index in slots.indices {
            guard let deadline = slots[index].request?.deadline else { continue }
            if deadline < now {
                giveUp(index, .timedOut)
            } else {
                next = min(next, deadline)
            }
        }
        watch(next)
    }

    func stop() { wire?.close(WireError(.ended, "the client is done")) }

    override func closed(_ reason: WireError) {
        ended = reason
        alarm?.task.cancel()
        alarm = nil
        if !isGreeted { greeted.fail(reason) }
        unsent.removeAll()
        for index in slots.indices {
            giveUp(index, .unavailable("The connection was closed: \(reason)."))
        }
    }
}
