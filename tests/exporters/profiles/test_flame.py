"""A flame graph's frames."""

from shmetrics.exporters.profiles.flame import MOST_DEPTH, ROOT, flame_graph
from shmetrics.profiling.profile import Profile
from tests.exporters.profiles.reports import PROFILE


def profile(stacks):
    return Profile(stacks, interval=0.01, seconds=1.0)


def places(graph):
    return [(frame.name, frame.depth, frame.start, frame.samples, frame.own) for frame in graph.frames]


def test_each_frame_lies_under_its_caller_the_widest_first():
    assert places(flame_graph(PROFILE, most=100)) == [
        (ROOT, 0, 0, 100, 0),
        ("app:serve", 1, 0, 100, 0),
        ("app:predict", 2, 0, 90, 0),
        ("torch", 3, 0, 60, 60),
        ("features:extract", 3, 60, 30, 5),
        ("numpy", 4, 60, 25, 25),
        ("app:encode", 2, 90, 10, 10),
    ]


def test_a_function_that_calls_itself_is_drawn_once_for_each_call():
    graph = flame_graph(profile({("a:f", "a:f", "a:f"): 3, ("a:f",): 1}), most=100)
    assert [(frame.depth, frame.samples, frame.own) for frame in graph.frames[1:]] == [(1, 4, 1), (2, 3, 0), (3, 3, 3)]


def test_the_narrowest_frames_are_left_out_and_one_says_how_many():
    graph = flame_graph(profile({("a:main", f"a:f{number}"): 10 + number for number in range(50)}), most=12)
    names = [frame.name for frame in graph.frames]
    assert graph.left_out == 40
    assert {"a:f49", "a:f40"} < set(names)
    assert "a:f39" not in names
    (rest,) = (frame for frame in graph.frames if frame.rest)
    assert (rest.name, rest.samples) == ("(40 more)", sum(10 + number for number in range(40)))
    assert rest.start + rest.samples == graph.samples


def test_many_stacks_make_no_more_frames_than_asked_for_and_their_rests():
    stacks = {
        tuple(f"m{level}:f{number % (7 + level)}" for level in range(9)): 1 + number % 5 for number in range(10_000)
    }
    graph = flame_graph(profile(stacks), most=500)
    assert len([frame for frame in graph.frames if not frame.rest]) == 500
    assert len(graph.frames) <= 1000


def test_a_very_deep_stack_is_cut():
    graph = flame_graph(profile({tuple(f"m:f{level}" for level in range(5000)): 1}), most=10_000)
    assert graph.depth == MOST_DEPTH + 1  # with the frame that says how many more
    assert graph.frames[-1].rest


def test_no_frame_leaves_its_caller():
    graph = flame_graph(
        profile({("a:x", *("b:y" for _ in range(n % 7)), f"c:z{n}"): n for n in range(1, 300)}), most=80
    )
    path = []
    for frame in graph.frames:
        while path and path[-1].depth >= frame.depth:
            path.pop()
        if path:
            assert path[-1].depth == frame.depth - 1
            assert path[-1].start <= frame.start
            assert frame.start + frame.samples <= path[-1].start + path[-1].samples
        path.append(frame)
