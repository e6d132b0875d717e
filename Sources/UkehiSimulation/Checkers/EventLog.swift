// The last things that happened, kept small and turned into words only when somebody asks why.

/// One thing worth telling.
enum LoggedEvent {
    case state(node: Int, term: UInt64, isLeader: Bool, committed: UInt64)
    case fault(Fault)
    case started(node: Int)
    case ended(node: Int, reason: String)
    case operation(HistoryOperation)
    case members(node: Int, words: String)
}

/// The newest events, in a ring.
final class EventLog {
    private struct Item {
        var at: UInt64
        var region: UInt64?
        var event: LoggedEvent
    }
    private let world: World
    private var items: [Item] = []
    private var next = 0
    private let capacity = 8192

    init(_ world: World) { self.world = world }

    func add(_ event: LoggedEvent, region: UInt64? = nil) {
        let item = Item(at: world.now, region: region, event: event)
        if items.count < capacity {
            items.append(item)
        } else {
            items[next] = item
            next = (next + 1) % capacity
        }
    }

    /// The last `count` events of a region, or of all, with those that concern every region.
    func lines(region: UInt64?, count: Int) -> [String] {
        let ordered = items[next...] + items[..<next]
        let concerned = ordered.filter { item in
            region == nil || item.region == nil || item.region == region
        }
        return concerned.suffix(count).map { item in
            let microseconds = item.at / 1000
            let time = "\(microseconds / 1000).\(microseconds % 1000 + 1000)".dropFirst(0)
            let text = String(time)
            let dot = text.lastIndex(of: ".") ?? text.startIndex
            let shown = text[..<dot] + "." + text[text.index(dot, offsetBy: 2)...]
            return "\(shown) ms  \(Self.words(item.event))"
        }
    }

    private static func words(_ event: LoggedEvent) -> String {
        switch event {
        case .state(let node, let term, let isLeader, let committed):
            "node-\(node + 1) \(isLeader ? "leads" : "follows in") term \(term), committed "
                + "\(committed)"
        case .fault(let fault): "fault \(fault)"
        case .members(let node, let words): "node-\(node + 1) \(words)"
        case .started(let node): "node-\(node + 1) starts"
        case .ended(let node, let reason): "node-\(node + 1) ends: \(reason)"
        case .operation(let operation):
            "client \(operation.client) \(operation.action) called at \(operation.call / 1_000_000)"
                + " ms: \(operation.outcome)"
        }
    }
}
