// One connection: bytes to frames and back, timeouts, and the one place where it ends.
//
//   socket ─ bytes ─▶ FrameAssembler ─ frames ─▶ WireSession (what the connection is for)
//   socket ◀─ one write and flush per call ───── WireSession
//
// Everything here happens on the connection's event loop. Whatever goes wrong ends in `close`,
// once: reason logged, told to the other side, channel closed.

import NIOCore
import UkehiBase

/// What a connection is for: a peer's messages in, ours out, a client's requests. Called on the
/// event loop; throwing closes the connection with that reason.
class WireSession {
    /// The connection; nil before it is open and after it is closed.
    fileprivate(set) final var wire: WireHandler?

    func opened() throws(WireError) {}
    func received(_ frame: Frame) throws(WireError) {}
    /// The bytes of one read are used up: time to hand over what was collected.
    func burstEnded() {}
    /// The socket takes bytes again, or does not.
    func writabilityChanged(_ isWritable: Bool) {}
    /// Called once per sweep interval.
    func tick(_ now: NIODeadline) throws(WireError) {}
    /// The connection is gone; called once.
    func closed(_ reason: WireError) {}
}

/// The channel handler of a connection.
final class WireHandler: ChannelDuplexHandler {
    typealias InboundIn = ByteBuffer
    typealias InboundOut = Never
    typealias OutboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    let limits: WireLimits
    let report: WireReport
    private let accepted: Bool
    let session: WireSession
    private var context: ChannelHandlerContext?
    private var assembler = FrameAssembler()
    private var sweep: Scheduled<Void>?
    private var isOpen = false
    private var isClosed = false
    private var heldBytes = 0
    private var openedAt = NIODeadline.uptimeNanoseconds(0)
    private var lastReadAt = NIODeadline.uptimeNanoseconds(0)
    private var frameBeganAt: NIODeadline?
    private var handedBytes = 0
    /// While bytes wait: how many the socket had taken, and since when it took no more.
    private var stalled: (since: NIODeadline, taken: Int)?
    private var scratch = ByteBuffer()
    private var readIsHeld = false

    /// Whether the hello is behind us; raises the frame limit, ends the hello timeout.
    var isEstablished = false
    /// Whether a node of this cluster is at the other end.
    var isNode = false
    /// While true, nothing is read: the other side is made to wait.
    var holdsReads = false {
        didSet {
            guard !holdsReads, readIsHeld else { return }
            readIsHeld = false
            context?.read()
        }
    }
    /// Whether fewer bytes wait than the channel's high water mark.
    private(set) var isWritable = true

    init(session: WireSession, limits: WireLimits, report: WireReport, accepted: Bool) {
        self.session = session
        self.limits = limits
        self.report = report
        self.accepted = accepted
    }

    var eventLoop: (any EventLoop)? { context?.eventLoop }
    var now: NIODeadline { context?.eventLoop.now ?? .now() }
    /// For logs.
    var remote: String { context?.remoteAddress?.description ?? "an unknown address" }

    /// Bytes handed over and not yet taken by the socket.
    var pendingBytes: Int {
        guard let options = context?.channel.syncOptions else { return 0 }
        return (try? options.getOption(.bufferedWritableBytes)) ?? 0
    }

    // MARK: Sending

    /// Sends one frame whose payload of exactly `payloadBytes` is written by `body`.
    func send(_ type: FrameType, payloadBytes: Int, _ body: (inout RawWriter) -> Void) {
        guard let context, isOpen, !isClosed else { return }
        let total = FrameHeader.bytes + payloadBytes
        // Reused when the socket has taken the last frame, so that steady traffic allocates nothing.
        if scratch.capacity > limits.batchBytes * 2 { scratch = ByteBuffer() }
        scratch.clear(minimumCapacity: total)
        scratch.writeWithUnsafeMutableBytes(minimumWritableBytes: total) { raw in
            let frame = UnsafeMutableRawBufferPointer(rebasing: raw[..<total])
            var writer = RawWriter(
                UnsafeMutableRawBufferPointer(rebasing: frame[FrameHeader.bytes...]))
            body(&writer)
            invariant(
                writer.count == payloadBytes,
                "a frame of \(writer.count) bytes was announced as \(payloadBytes)")
            FrameHeader.seal(frame, type: type)
            return total
        }
        report.sent(frameOf: total)
        handedBytes += total
        context.writeAndFlush(wrapOutboundOut(scratch), promise: nil)
    }

    func send(_ type: FrameType, _ payload: Bytes) {
        send(type, payloadBytes: payload.count) { $0.put(payload) }
    }

    // MARK: Receiving

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard !isClosed else { return }
        lastReadAt = context.eventLoop.now
        let buffer = unwrapInboundIn(data)
        buffer.withUnsafeReadableBytes { raw in
            do throws(WireError) {
                var input = raw
                while !isClosed {
                    let limit = isEstablished ? limits.maxPayload : limits.maxPayloadBeforeHello
                    guard let frame = try assembler.next(&input, maxPayload: limit) else { break }
                    frameBeganAt = nil
                    report.received(frameOf: frame.payload.count + FrameHeader.bytes)
                    if frame.type == .farewell {
                        let (kind, reason) = Farewell.decode(frame.payload)
                        throw WireError(kind, "the other side says: \(reason)")
                    }
                    try session.received(frame)
                }
                try accountForAssembly()
            } catch {
                close(error)
            }
        }
    }

    private func accountForAssembly() throws(WireError) {
        if assembler.isInsideFrame {
            if frameBeganAt == nil { frameBeganAt = lastReadAt }
        } else {
            frameBeganAt = nil
        }
        let held = assembler.heldBytes
        guard accepted, held != heldBytes else { return }
        let grown = held > heldBytes
        let total = report.held(held - heldBytes)
        heldBytes = held
        // Clients must not push nodes out: of those there are few.
        guard !grown || isNode || total <= limits.maxAssemblingBytes else {
            throw WireError(
                .resources,
                "unfinished frames of all connections hold \(total) bytes, over the "
                    + "limit of \(limits.maxAssemblingBytes)")
        }
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        if !isClosed { session.burstEnded() }
    }

    func read(context: ChannelHandlerContext) {
        if holdsReads {
            readIsHeld = true
        } else {
            context.read()
        }
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        isWritable = context.channel.isWritable
        if isWritable { stalled = nil }
        if !isClosed { session.writabilityChanged(isWritable) }
    }

    // MARK: Beginning and end

    func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
        if context.channel.isActive { open(context) }
    }

    func channelActive(context: ChannelHandlerContext) { open(context) }

    private func open(_ context: ChannelHandlerContext) {
        guard !isOpen, !isClosed else { return }
        isOpen = true
        openedAt = context.eventLoop.now
        lastReadAt = openedAt
        session.wire = self
        if accepted {
            let open = report.acceptedConnection()
            guard open <= limits.maxConnections else {
                close(
                    WireError(
                        .resources, "\(limits.maxConnections) connections are open already"))
                return
            }
        }
        scheduleSweep(context)
        do throws(WireError) { try session.opened() } catch { close(error) }
    }

    func channelInactive(context: ChannelHandlerContext) {
        finish(WireError(.ended, "closed by the other side"))
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        close(WireError(.network, "network error: \(error)"))
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        finish(WireError(.ended, "closed"))
        self.context = nil
    }

    /// Ends the connection; the other side is told why unless it is gone.
    func close(_ reason: WireError) {
        guard !isClosed, let context else { return }
        // An orderly end needs no word: the other side would log it as trouble.
        let isSilent =
            switch reason.kind {
            case .network, .told, .refusedByPeer, .ended: true
            default: false
            }
        let tells = isOpen && !isSilent && context.channel.isActive
        report.ended(reason, remote: remote, at: now)
        if tells { send(.farewell, Farewell.encode(reason)) }
        finish(reason)
        context.close(promise: nil)
    }

    private func finish(_ reason: WireError) {
        guard !isClosed else { return }
        isClosed = true
        sweep?.cancel()
        sweep = nil
        if accepted, isOpen {
            report.closedAccepted()
            _ = report.held(-heldBytes)
            heldBytes = 0
        }
        session.closed(reason)
        session.wire = nil
    }

    // MARK: Timeouts

    private func scheduleSweep(_ context: ChannelHandlerContext) {
        sweep = context.eventLoop.assumeIsolated().scheduleTask(in: limits.sweepInterval) {
            self.sweepNow(context)
        }
    }

    private func sweepNow(_ context: ChannelHandlerContext) {
        guard !isClosed else { return }
        let now = context.eventLoop.now
        do throws(WireError) {
            try checkTime(now)
            try session.tick(now)
        } catch {
            close(error)
            return
        }
        if !isClosed { scheduleSweep(context) }
    }

    private func checkTime(_ now: NIODeadline) throws(WireError) {
        if !isEstablished, now - openedAt >= limits.helloTimeout {
            throw WireError(.timeout, "no complete hello in \(seconds(limits.helloTimeout))")
        }
        if let began = frameBeganAt {
            if now - began >= limits.frameTimeout {
                throw WireError(
                    .timeout, "a frame was not complete in \(seconds(limits.frameTimeout))")
            }
            if now - lastReadAt >= limits.stallTimeout, !holdsReads {
                throw WireError(
                    .timeout, "no byte of a begun frame in \(seconds(limits.stallTimeout))")
            }
        }
        guard !isWritable else { return }
        let pending = pendingBytes
        let taken = handedBytes - pending
        if let stalled, stalled.taken == taken {
            if now - stalled.since >= limits.stallTimeout {
                throw WireError(
                    .timeout, "\(pending) bytes were not taken in \(seconds(limits.stallTimeout))")
            }
        } else {
            stalled = (now, taken)
        }
    }

    private func seconds(_ time: TimeAmount) -> String { "\(time.nanoseconds / 1_000_000_000) s" }
}
