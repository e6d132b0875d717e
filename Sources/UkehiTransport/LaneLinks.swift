// One lane's outgoing connections: to each other node one for control, one for bulk and one for
// snapshots. Hot path.
//
//   send(messages, node) ─┬─ appendEntries over 64 KiB of entries ──▶ bulk connection
//                         ├─ parts of snapshots ────────────────────▶ snapshot connection
//                         └─ everything else ───────────────────────▶ control connection
//
// Messages of one call become one frame (more, past `batchBytes`) and one write with one flush.
// A region whose large append is under way sends its following appends behind it for a moment:
// arriving before it they would be rejected and sent again.
//
// Back-pressure: past `softPendingBytes` (`bulkPendingBytes`) in a socket appendEntries are dropped,
// past `hardPendingBytes` everything is; `unreachable` is told once until the connection recovers.

import NIOCore
import UkehiBase
import UkehiNode
import UkehiRaft

/// Confined to the lane's event loop.
///
/// Safety: `@unchecked Sendable` because closures bound for its loop carry it; each method that is
/// not called by the loop's own channels checks that it runs there.
final class LaneLinks: DialedSessionOwner, @unchecked Sendable {
    /// How long appends follow a large one on the bulk connection after it has left.
    private static let bulkStays = TimeAmount.milliseconds(50)

    /// The connections to one node.
    private final class Link {
        let node: NodeID
        var control: DialedSession?
        var bulk: DialedSession?
        var snapshot: DialedSession?
        /// Regions whose appends stay on the bulk connection, and until when; mostly empty.
        var onBulk: [RegionID: NIODeadline] = [:]
        var isReported = false

        init(node: NodeID) { self.node = node }
    }

    private let lane: Int
    private let loop: any EventLoop
    private let limits: WireLimits
    private let report: WireReport
    private let events: any TransportEvents
    private var dialers: [Dialer] = []
    private var links: [NodeID: Link] = [:]
    private var isStopped = false
    // Reused between calls.
    private var controlBatch = Batch()
    private var bulkBatch = Batch()
    private var snapshotBatch = Batch()

    /// Which of a call's messages go on one connection, and their sizes.
    private struct Batch {
        var items: [(index: Int, bytes: Int)] = []
    }

    init(
        lane: Int, loop: any EventLoop, limits: WireLimits, report: WireReport,
        events: any TransportEvents
    ) {
        self.lane = lane
        self.loop = loop
        self.limits = limits
        self.report = report
        self.events = events
    }

    /// Dials these from now on, but for those it dials already.
    func dial(_ addresses: [String]) {
        loop.preconditionInEventLoop()
        guard !isStopped else { return }
        let begun = dialers.count
        for address in addresses where !dialers.contains(where: { $0.address == address }) {
            for purpose in [ConnectionPurpose.control, .bulk, .snapshot] {
                dialers.append(
                    Dialer(
                        address: address, purpose: purpose, loop: loop, limits: limits,
                        report: report, events: events, owner: self))
            }
        }
        for dialer in dialers[begun...] { dialer.dial() }
    }

    /// Dials these no more.
    func hangUp(_ addresses: [String]) {
        loop.preconditionInEventLoop()
        let ending = dialers.filter { addresses.contains($0.address) }
        dialers.removeAll { addresses.contains($0.address) }
        for dialer in ending {
            if let session = dialer.session {
                for link in links.values { remove(session, from: link) }
            }
            _ = dialer.stop()
        }
    }

    /// Closes everything; completes when the channels are closed.
    func stop() -> EventLoopFuture<Void> {
        loop.preconditionInEventLoop()
        isStopped = true
        let closed = dialers.map { $0.stop() }
        return EventLoopFuture.andAllComplete(closed, on: loop)
    }

    /// A node has dialed us: it is up, so ours to it need not wait.
    func heard(_ remote: Hello) {
        loop.preconditionInEventLoop()
        for dialer in dialers where dialer.address == remote.address { dialer.dial() }
    }

    // MARK: Connections come and go

    func established(_ session: DialedSession, remote: Hello, isNews: Bool) {
        let dialer = dialers.first { $0.session === session }
        dialer?.succeeded()
        if session.carriesMessages, let node = remote.node {
            for other in links.values where other.node != node { remove(session, from: other) }
            let link = link(to: node)
            switch session.purpose {
            case .control: link.control = session
            case .bulk: link.bulk = session
            case .snapshot: link.snapshot = session
            case .client: break
            }
            link.isReported = false
        }
        if isNews, lane == 0, session.purpose == .control {
            events.connected(remote, dialed: session.address)
        }
    }

    func writable(_ session: DialedSession) {
        guard let node = session.remote?.node else { return }
        links[node]?.isReported = false
    }

    func ended(_ session: DialedSession, reason: WireError) {
        dialers.first { $0.session === session }?.ended(session, reason: reason)
        for link in links.values { remove(session, from: link) }
    }

    private func remove(_ session: DialedSession, from link: Link) {
        // Who waits for parts of a snapshot asks again: it is no news for anybody else.
        if link.snapshot === session { link.snapshot = other(than: session, to: link) }
        guard link.control === session || link.bulk === session else { return }
        if link.control === session { link.control = other(than: session, to: link) }
        if link.bulk === session {
            link.bulk = other(than: session, to: link)
            link.onBulk.removeAll()
        }
        if !isStopped { tellUnreachable(link) }
    }

    /// A session for the same to the same node, where that is dialed at two addresses.
    private func other(than session: DialedSession, to link: Link) -> DialedSession? {
        dialers.lazy.compactMap(\.session).first {
            $0 !== session && $0.purpose == session.purpose && $0.carriesMessages
                && $0.remote?.node == link.node
        }
    }

    private func link(to node: NodeID) -> Link {
        if let link = links[node] { return link }
        let link = Link(node: node)
        links[node] = link
        return link
    }

    private func tellUnreachable(_ link: Link) {
        guard !link.isReported else { return }
        link.isReported = true
        events.unreachable(link.node)
    }

    // MARK: Sending

    func sendBootstrap(_ bytes: Bytes, to address: String) {
        loop.preconditionInEventLoop()
        let session = dialers.first {
            $0.purpose == .control && $0.session?.remote != nil
                && ($0.address == address || $0.session?.remote?.address == address)
        }?.session
        guard let wire = session?.wire else {
            report.dropped(messages: 1)
            return
        }
        guard bytes.count <= limits.maxPayload else {
            report.warn(
                .oversize, "Not sent: a bootstrap record of \(bytes.count) bytes.", at: loop.now)
            return
        }
        wire.send(.bootstrap, bytes)
    }

    func send(_ messages: [RegionMessage], to node: NodeID) {
        loop.preconditionInEventLoop()
        guard !isStopped, !messages.isEmpty else { return }
        let link = link(to: node)
        plan(messages, for: link)
        if !controlBatch.items.isEmpty { send(messages, controlBatch, on: link.control, of: link) }
        if !bulkBatch.items.isEmpty { send(messages, bulkBatch, on: link.bulk, of: link) }
        if !snapshotBatch.items.isEmpty {
            send(messages, snapshotBatch, on: link.snapshot, of: link)
            snapshotBatch.items.removeAll(keepingCapacity: true)
        }
        controlBatch.items.removeAll(keepingCapacity: true)
        bulkBatch.items.removeAll(keepingCapacity: true)
    }

    private func plan(_ messages: [RegionMessage], for link: Link) {
        for index in messages.indices {
            let entryBytes = MessageCodec.entryBytes(of: messages[index].message)
            let bytes = MessageCodec.bytes(of: messages[index].message, entryBytes: entryBytes)
            let kind = messages[index].message.kind
            if kind == .snapshotChunk {
                snapshotBatch.items.append((index, bytes))
            } else if kind == .appendEntries
                ? goesOnBulk(messages[index].region, entryBytes: entryBytes, link)
                : entryBytes > limits.bulkEntryBytes
            {
                bulkBatch.items.append((index, bytes))
            } else {
                controlBatch.items.append((index, bytes))
            }
        }
    }

    private func goesOnBulk(_ region: RegionID, entryBytes: Int, _ link: Link) -> Bool {
        if entryBytes > limits.bulkEntryBytes {
            link.onBulk[region] = loop.now + LaneLinks.bulkStays
            return true
        }
        guard !link.onBulk.isEmpty, let until = link.onBulk[region] else { return false }
        if loop.now < until { return true }
        if let wire = link.bulk?.wire, wire.pendingBytes > 0 {
            link.onBulk[region] = loop.now + LaneLinks.bulkStays
            return true
        }
        link.onBulk[region] = nil
        return false
    }

    private func send(
        _ messages: [RegionMessage], _ batch: Batch, on session: DialedSession?, of link: Link
    ) {
        guard let session, session.carriesMessages, let wire = session.wire else {
            report.dropped(messages: batch.items.count)
            let areParts = batch.items.allSatisfy {
                messages[$0.index].message.kind == .snapshotChunk
            }
            if !areParts { tellUnreachable(link) }
            return
        }
        var start = 0
        while start < batch.items.count {
            let pressure = pressure(on: wire)
            var end = start
            var count = 0
            var bytes = 4
            while end < batch.items.count {
                let item = batch.items[end]
                if passes(messages[item.index].message.kind, pressure), fits(item.bytes) {
                    guard count == 0 || bytes + item.bytes <= limits.batchBytes else { break }
                    bytes += item.bytes
                    count += 1
                } else {
                    report.dropped(messages: 1)
                    tellUnreachable(link)
                }
                end += 1
            }
            if count > 0 {
                wire.send(.messages, payloadBytes: bytes) { writer in
                    writer.put(UInt32(count))
                    for item in batch.items[start..<end]
                    where passes(messages[item.index].message.kind, pressure) && fits(item.bytes) {
                        MessageCodec.encode(messages[item.index], into: &writer)
                    }
                }
                report.sent(messages: count)
            }
            start = end
        }
    }

    private enum Pressure { case none, soft, hard }

    private func pressure(on wire: WireHandler) -> Pressure {
        if wire.isWritable { return .none }
        return wire.pendingBytes > limits.hardPendingBytes ? .hard : .soft
    }

    private func passes(_ kind: MessageKind, _ pressure: Pressure) -> Bool {
        switch pressure {
        case .none: true
        case .soft: kind != .appendEntries
        case .hard: false
        }
    }

    private func fits(_ bytes: Int) -> Bool { bytes + 4 <= limits.maxPayload }
}
