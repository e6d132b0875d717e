// Keeps one connection to one configured address: dials for ever, with back-off and jitter.
//
//   waiting ──▶ connecting ──▶ connected (hello said) ──▶ established
//      ▲             │                  │                      │
//      └─── back-off ┴──────────────────┴──────────────────────┘
//
// The back-off starts anew once a handshake succeeded, and a hello heard from that address ends the
// wait: a restarted node is dialed as soon as it dials us.

import NIOCore
import NIOPosix
import UkehiBase
import UkehiNode

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// Confined to its event loop.
final class Dialer {
    let address: String
    let purpose: ConnectionPurpose
    private let loop: any EventLoop
    private let limits: WireLimits
    private let report: WireReport
    private let events: any TransportEvents
    private weak var owner: (any DialedSessionOwner)?
    private(set) var session: DialedSession?
    private var channel: (any Channel)?
    /// The attempt under way; never fails.
    private var connecting: EventLoopFuture<Void>?
    private var waiting: Scheduled<Void>?
    private var backoff: TimeAmount
    private var isStopped = false

    init(
        address: String, purpose: ConnectionPurpose, loop: any EventLoop, limits: WireLimits,
        report: WireReport, events: any TransportEvents, owner: any DialedSessionOwner
    ) {
        self.address = address
        self.purpose = purpose
        self.loop = loop
        self.limits = limits
        self.report = report
        self.events = events
        self.owner = owner
        backoff = limits.firstBackoff
    }

    /// Dials unless it is connected or on the way.
    func dial() {
        waiting?.cancel()
        waiting = nil
        guard !isStopped, connecting == nil, session == nil else { return }
        guard let target = HostPort(address) else { return }  // Refused when the transport started.
        let ended = loop.makePromise(of: Void.self)
        connecting = ended.futureResult
        let bound = NIOLoopBound(self, eventLoop: loop)
        let limits = limits
        let report = report
        let pending =
            purpose == .control ? limits.softPendingBytes : limits.bulkPendingBytes
        let unanswered =
            purpose == .snapshot
            ? limits.snapshotUnansweredMilliseconds : limits.unansweredMilliseconds
        WireChannels.client(
            on: loop, limits: limits, pendingBytes: pending, unansweredMilliseconds: unanswered
        )
        .channelInitializer { channel in
            // A name with several addresses may try several channels; one of them is adopted.
            channel.eventLoop.makeCompletedFuture {
                let session = bound.value.makeSession()
                let handler = WireHandler(
                    session: session, limits: limits, report: report, accepted: false)
                try channel.pipeline.syncOperations.addHandler(handler)
            }
        }
        .connect(host: target.host, port: target.port)
        .hop(to: loop)
        .whenComplete { result in
            bound.value.connected(result)
            ended.succeed()
        }
    }

    private func makeSession() -> DialedSession {
        DialedSession(address: address, purpose: purpose, events: events, owner: owner)
    }

    private func connected(_ result: Result<any Channel, any Error>) {
        connecting = nil
        switch result {
        case .success(let channel):
            let handler = try? channel.pipeline.syncOperations.handler(type: WireHandler.self)
            if !isStopped, channel.isActive, let session = handler?.session as? DialedSession {
                self.channel = channel
                self.session = session
            } else {
                channel.close(promise: nil)
                again()
            }
        case .failure(let error):
            report.warn(
                .network, "Cannot reach \(address): \(Self.cause(of: error)). Dialing again.",
                at: loop.now)
            again()
        }
    }

    /// The system's word for it; the library's lists every address it tried.
    private static func cause(of error: any Error) -> String {
        guard let failure = error as? NIOConnectionError,
            let cause = failure.connectionErrors.last?.error
        else { return "\(error)" }
        guard let system = cause as? IOError else { return "\(cause)" }
        return String(cString: strerror(system.errnoCode))
    }

    /// The handshake succeeded: the next break is dialed quickly.
    func succeeded() { backoff = limits.firstBackoff }

    /// The session ended, whatever the reason.
    func ended(_ session: DialedSession, reason: WireError) {
        guard self.session === session else { return }
        self.session = nil
        channel = nil
        // Those who refuse us will not change their mind at once.
        switch reason.kind {
        case .refused, .dismissed, .told: backoff = limits.longestBackoff
        case .refusedByPeer:
            backoff = limits.longestBackoff
            events.refused(reason.reason, dialed: address)
        case .dismissedByPeer:
            backoff = limits.longestBackoff
            events.dismissed(reason.reason, by: address)
        default: break
        }
        again()
    }

    private func again() {
        guard !isStopped, waiting == nil else { return }
        let full = backoff.nanoseconds
        let wait = Int64.random(in: full / 2...full)
        backoff = .nanoseconds(min(full * 2, limits.longestBackoff.nanoseconds))
        waiting = loop.assumeIsolated().scheduleTask(in: .nanoseconds(wait)) { [weak self] in
            self?.waiting = nil
            self?.dial()
        }
    }

    /// Ends for good; the future completes when nothing is left open or on the way.
    func stop() -> EventLoopFuture<Void> {
        isStopped = true
        waiting?.cancel()
        waiting = nil
        if let connecting { return connecting }
        guard let channel else { return loop.makeSucceededVoidFuture() }
        session?.wire?.close(WireError(.ended, "the node stops"))
        return channel.closeFuture
    }
}

/// `host:port`, with an IPv6 host in brackets.
package struct HostPort: Hashable, Sendable {
    package var host: String
    package var port: Int

    package init?(_ text: String) {
        guard let colon = text.lastIndex(of: ":"),
            let port = UInt16(text[text.index(after: colon)...]), port > 0
        else { return nil }
        var host = text[..<colon]
        if host.hasPrefix("["), host.hasSuffix("]") {
            host = host.dropFirst().dropLast()
        } else if host.contains(":") {
            return nil
        }
        guard !host.isEmpty else { return nil }
        self.host = String(host)
        self.port = Int(port)
    }
}
