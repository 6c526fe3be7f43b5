"""Tables of common knowledge, written by hand, from which the general suite is made.

A `Pairs` table gives `key=value` rows: the wrong choices of a row are values of other rows, unless it names its own
(`key=value~wrong~wrong~wrong`). A `Rows` table gives whole items: `prompt|right|wrong|wrong|wrong`. Knows nothing of
models or gates; called by `general.py` only.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pairs:
    """Rows `key=value; key=value; ...`. The first two rows are the two examples of the question form."""

    family: str
    question: str
    completion: str
    rows: str


@dataclass(frozen=True, slots=True)
class Rows:
    """One item a line: `prompt|right|wrong|wrong|wrong`. A prompt that ends in `?` is asked in the question form."""

    family: str
    examples: tuple[tuple[str, str], tuple[str, str]]
    rows: str


PAIRS = (
    Pairs(
        "capitals",
        "What is the capital of {0}?",
        "The capital of {0} is the city of",
        "Germany=Berlin; Portugal=Lisbon; France=Paris~Lyon~Nice~Lille; Italy=Rome~Milan~Naples~Venice; "
        "Spain=Madrid~Seville~Bilbao~Valencia; Austria=Vienna~Graz~Linz~Salzburg; Japan=Tokyo~Osaka~Kyoto~Nagoya; "
        "China=Beijing~Shanghai~Wuhan~Tianjin; Russia=Moscow~Kazan~Omsk~Samara; "
        "Canada=Ottawa~Toronto~Montreal~Calgary; Australia=Canberra~Sydney~Brisbane~Melbourne; "
        "Turkey=Ankara~Istanbul~Izmir~Bursa; Poland=Warsaw~Krakow~Gdansk~Poznan; "
        "India=New Delhi~Mumbai~Kolkata~Chennai; Brazil=Brasilia~Salvador~Sao Paulo~Recife; "
        "Egypt=Cairo~Alexandria~Luxor~Giza; Switzerland=Bern~Zurich~Geneva~Basel; "
        "Scotland=Edinburgh~Glasgow~Aberdeen~Dundee; the Netherlands=Amsterdam~Rotterdam~Utrecht~Eindhoven; "
        "Greece=Athens~Sparta~Corfu~Patras",
    ),
    Pairs(
        "sounds",
        "What sound does a {0} make?",
        "The sound that a {0} makes is called a",
        "dog=bark; cow=moo; cat=meow; duck=quack; lion=roar; sheep=baa; horse=neigh; pig=oink; snake=hiss; "
        "bee=buzz; wolf=howl; owl=hoot; mouse=squeak; bird=chirp; frog=croak; clock=tick; bell=ring; balloon=pop",
    ),
    Pairs(
        "opposites",
        "What is the opposite of {0}?",
        "The opposite of {0} is",
        "hot=cold; up=down; big=small~large~wide~tall; fast=slow~quick~rapid~swift; happy=sad~glad~merry~joyful; "
        "young=old~new~little~fresh; rich=poor~wealthy~costly~gold; open=closed~ajar~wide~free; "
        "wet=dry~damp~moist~cool; hard=soft~firm~solid~tough; full=empty~filled~packed~whole; "
        "early=late~soon~prompt~first; strong=weak~mighty~tough~firm; clean=dirty~neat~pure~tidy; "
        "thick=thin~dense~heavy~fat; push=pull~press~shove~move; love=hate~adore~like~care; "
        "win=lose~earn~gain~beat; loud=quiet~noisy~harsh~clear; brave=cowardly~bold~daring~heroic",
    ),
    Pairs(
        "colours",
        "What colour is {0}?",
        "The usual colour of {0} is",
        "blood=red; grass=green; a banana=yellow; snow=white; coal=black; a clear sky=blue; an orange=orange; "
        "a flamingo=pink; chocolate=brown; an elephant=grey; an emerald=green; a ruby=red; milk=white; "
        "a lemon=yellow; a carrot=orange; a raven=black; a ripe tomato=red; a sapphire=blue; a polar bear=white; "
        "a cucumber=green; a sunflower=yellow; an eggplant=purple; a lavender flower=purple; a fire engine=red; "
        "a ripe strawberry=red",
    ),
    Pairs(
        "symbols",
        "What is the chemical symbol for {0}?",
        "The chemical symbol for {0} is",
        "carbon=C; iron=Fe; oxygen=O~Ox~Og~Os; hydrogen=H~Hy~Hg~Ho; nitrogen=N~Ni~Ne~Nt; gold=Au~Go~Gd~Ag; "
        "silver=Ag~Si~Sv~Au; copper=Cu~Co~Cp~Cr; sodium=Na~So~Sd~S; potassium=K~P~Po~Pt; lead=Pb~Le~Ld~Pl; "
        "tin=Sn~Ti~Tn~T; mercury=Hg~Me~Mr~Mg; helium=He~H~Hl~Hm; calcium=Ca~C~Cl~Cm; chlorine=Cl~Ch~C~Cr; "
        "zinc=Zn~Z~Zi~Zc; magnesium=Mg~M~Ma~Mn; aluminum=Al~A~Am~Au; uranium=U~Ur~Un~Um",
    ),
    Pairs(
        "continents",
        "On which continent is {0}?",
        "The country of {0} is on the continent of",
        "Spain=Europe; Kenya=Africa; Egypt=Africa; China=Asia; India=Asia; Brazil=South America; "
        "Peru=South America; Canada=North America; Mexico=North America; Nigeria=Africa; Vietnam=Asia; "
        "Poland=Europe; Sweden=Europe; Chile=South America; Ethiopia=Africa; Nepal=Asia; Bolivia=South America; "
        "Ghana=Africa; Cuba=North America; Morocco=Africa",
    ),
    Pairs(
        "body",
        "Which part of the body is used for {0}?",
        "The part of the body used for {0} is the",
        "seeing=eye; hearing=ear; smelling=nose; tasting=tongue; thinking=brain; pumping blood=heart; "
        "breathing air=lungs; digesting food=stomach; chewing=teeth; holding a pen=hand; walking=legs; "
        "cleaning the blood=kidneys; bending the arm=elbow; bending the leg=knee; wearing a ring=finger; "
        "wearing a watch=wrist; wearing a scarf=neck; kicking a ball=foot; wearing a hat=head",
    ),
    Pairs(
        "jobs",
        "Who {0}?",
        "The person who {0} is called a",
        "flies planes=pilot; bakes bread=baker; puts out fires=firefighter; cuts hair=barber; "
        "teaches at a school=teacher; grows crops=farmer; repairs cars=mechanic; treats sick people=doctor; "
        "catches criminals=policeman; catches fish=fisherman; fixes teeth=dentist; sells meat=butcher; "
        "writes novels=author; paints pictures=painter; serves food in a restaurant=waiter; fixes pipes=plumber; "
        "takes photographs=photographer; builds with wood=carpenter; designs buildings=architect; "
        "treats sick animals=veterinarian; plays music=musician; delivers mail=postman; acts in films=actor; "
        "makes clothes=tailor; sells flowers=florist; travels in space=astronaut; decides cases in court=judge; "
        "sails ships=sailor",
    ),
    Pairs(
        "plurals",
        'What is the plural of "{0}"?',
        "One {0}, two",
        "cat=cats; child=children; foot=feet~foots~feets~footes; tooth=teeth~tooths~teeths~toothes; "
        "mouse=mice~mouses~mices~mouse's; man=men~mans~mens~manes; goose=geese~gooses~geeses~goosen; "
        "leaf=leaves~leafs~leafes~leave; knife=knives~knifes~knive~knifen; wolf=wolves~wolfs~wolfes~wolve; "
        "box=boxes~boxs~boxen~box; city=cities~citys~cityes~citie; baby=babies~babys~babyes~babie; "
        "hero=heroes~heros~heroen~heroies; wife=wives~wifes~wive~wifen; person=people~peoples~persones~personen; "
        "ox=oxen~oxes~oxs~oxies; bus=buses~buss~busen~busies; church=churches~churchs~churchen~churchies; "
        "sheep=sheep~sheeps~sheepes~sheepen",
    ),
    Pairs(
        "past",
        'What is the past tense of "{0}"?',
        "Today I {0}. Yesterday I",
        "go=went; eat=ate; see=saw~seed~sees~sawed; run=ran~runned~run~runs; take=took~taked~takes~tooked; "
        "give=gave~gived~gives~gaved; write=wrote~writed~writes~wroted; drink=drank~drinked~drinks~dranked; "
        "swim=swam~swimmed~swims~swammed; buy=bought~buyed~buys~boughted; think=thought~thinked~thinks~thoughted; "
        "teach=taught~teached~teaches~taughted; catch=caught~catched~catches~caughted; "
        "know=knew~knowed~knows~knewed; fly=flew~flied~flies~flewed; draw=drew~drawed~draws~drewed; "
        "break=broke~breaked~breaks~broked; drive=drove~drived~drives~droved; sleep=slept~sleeped~sleeps~slepted; "
        "lose=lost~losed~loses~losted",
    ),
    Pairs(
        "categories",
        "What kind of thing is a {0}?",
        "A {0} is a kind of",
        "rose=flower; hammer=tool; salmon=fish; eagle=bird; oak=tree; violin=instrument; apple=fruit; "
        "carrot=vegetable; ant=insect; chair=furniture; shirt=clothing; car=vehicle; snake=reptile; tiger=animal; "
        "diamond=gem; triangle=shape; football=sport; piano=instrument; tulip=flower; shark=fish; parrot=bird; "
        "pine=tree; banana=fruit; screwdriver=tool; truck=vehicle; lizard=reptile; beetle=insect; sofa=furniture",
    ),
    Pairs(
        "synonyms",
        'Which word means the same as "{0}"?',
        "A word that means the same as {0} is",
        "big=large; quick=fast; happy=glad; begin=start; end=finish; shut=close; angry=mad; clever=smart; "
        "ill=sick; small=little; speak=talk; choose=pick; present=gift; rich=wealthy; scared=afraid; odd=strange; "
        "silent=quiet; brave=courageous; hard=difficult; easy=simple; error=mistake; jump=leap; rock=stone; "
        "street=road; beautiful=pretty; yell=shout; buy=purchase; help=assist; repair=fix; reply=answer",
    ),
    Pairs(
        "authors",
        'Who wrote "{0}"?',
        'The author of "{0}" is',
        "Hamlet=William Shakespeare; War and Peace=Leo Tolstoy; Pride and Prejudice=Jane Austen; "
        "Oliver Twist=Charles Dickens; The Odyssey=Homer; Don Quixote=Miguel de Cervantes; "
        "Moby-Dick=Herman Melville; Animal Farm=George Orwell; The Great Gatsby=F. Scott Fitzgerald; "
        "Frankenstein=Mary Shelley; Dracula=Bram Stoker; The Hobbit=J.R.R. Tolkien; Harry Potter=J.K. Rowling; "
        "Crime and Punishment=Fyodor Dostoevsky; The Divine Comedy=Dante Alighieri; "
        "Alice in Wonderland=Lewis Carroll; Tom Sawyer=Mark Twain; The Republic=Plato; Les Misérables=Victor Hugo; "
        "The Old Man and the Sea=Ernest Hemingway; Treasure Island=Robert Louis Stevenson; "
        "The Time Machine=H.G. Wells; The Jungle Book=Rudyard Kipling; Faust=Johann Wolfgang von Goethe; "
        "Jane Eyre=Charlotte Brontë; The Canterbury Tales=Geoffrey Chaucer",
    ),
    Pairs(
        "materials",
        "What is a {0} usually made of?",
        "A {0} is usually made of",
        "window pane=glass; brick=clay; newspaper=paper; tyre=rubber; candle=wax; sweater=wool; coin=metal; "
        "wedding ring=gold; T-shirt=cotton; log cabin=wood; pillow=feathers; snowman=snow; wallet=leather; "
        "sandcastle=sand; pavement=concrete; book page=paper; mirror=glass; nail=steel; igloo=ice; "
        "bottle cap=metal; toy block=plastic; statue=marble",
    ),
    Pairs(
        "spanish",
        'What is the Spanish word for "{0}"?',
        "English: {0}. Spanish:",
        "cat=gato; house=casa; dog=perro; water=agua; red=rojo; book=libro; night=noche; hello=hola; friend=amigo; "
        "woman=mujer; man=hombre; white=blanco; black=negro; milk=leche; sun=sol; school=escuela; fish=pescado; "
        "cheese=queso; thank you=gracias; green=verde; king=rey; sea=mar; two=dos; three=tres; good=bueno; "
        "bread=pan",
    ),
    Pairs(
        "young",
        "What is a young {0} called?",
        "A young {0} is called a",
        "dog=puppy; cat=kitten; cow=calf; sheep=lamb; horse=foal; pig=piglet; duck=duckling; goat=kid; bear=cub; "
        "frog=tadpole; hen=chick; swan=cygnet; goose=gosling; deer=fawn; kangaroo=joey; owl=owlet; human=baby; "
        "butterfly=caterpillar",
    ),
    Pairs(
        "languages",
        "Which language do most people in {0} speak?",
        "Most people in {0} speak",
        "Brazil=Portuguese; Japan=Japanese; France=French; Germany=German; Italy=Italian; Mexico=Spanish; "
        "Russia=Russian; Greece=Greek; Turkey=Turkish; Poland=Polish; Egypt=Arabic; Iran=Persian; Israel=Hebrew; "
        "Sweden=Swedish; Hungary=Hungarian; Austria=German; Argentina=Spanish; Finland=Finnish; Thailand=Thai; "
        "Vietnam=Vietnamese; Denmark=Danish; Australia=English; Iraq=Arabic; Portugal=Portuguese; "
        "Romania=Romanian; Korea=Korean",
    ),
    Pairs(
        "currencies",
        "What is the currency of {0}?",
        "The currency of {0} is the",
        "Japan=yen; Germany=euro; Mexico=peso; India=rupee; Russia=ruble; Switzerland=franc; "
        "the United States=dollar; the United Kingdom=pound; China=yuan; Brazil=real; South Africa=rand; "
        "Poland=zloty; Sweden=krona; Turkey=lira; South Korea=won; Thailand=baht; Israel=shekel; France=euro; "
        "Canada=dollar; Pakistan=rupee; Vietnam=dong; Nigeria=naira; Argentina=peso; Hungary=forint",
    ),
    Pairs(
        "homes",
        "Where does a {0} live?",
        "The place where a {0} lives or is kept is a",
        "bee=hive; bird=nest; spider=web; horse=stable; king=palace; lion=den; dog=kennel; pig=sty; chicken=coop; "
        "fish=pond; rabbit=burrow; soldier=barracks; monk=monastery; prisoner=prison; student=dormitory; "
        "camel=desert; monkey=jungle; whale=ocean",
    ),
    Pairs(
        "purpose",
        "What do people use to {0}?",
        "To {0}, people use a",
        "cut paper=scissors; tell the time=clock; write a letter=pen; sweep the floor=broom; unlock a door=key; "
        "stay dry in the rain=umbrella; eat soup=spoon; dig a hole=shovel; hit a nail=hammer; boil water=kettle; "
        "measure temperature=thermometer; see the stars=telescope; take photos=camera; call a friend=phone; "
        "dry themselves after a bath=towel; sew a button=needle; find north=compass; climb onto a roof=ladder; "
        "weigh flour=scale; cut a log=saw; fasten a screw=screwdriver; wash their hands=soap; "
        "keep food cold=refrigerator; comb their hair=comb; read in the dark=lamp; cross a river=bridge",
    ),
    Pairs(
        "family",
        "What do you call {0}?",
        "A word for {0} is",
        "your father's brother=uncle; your mother's mother=grandmother; your mother's sister=aunt; "
        "your father's father=grandfather; your uncle's child=cousin; your brother's daughter=niece; "
        "your sister's son=nephew; a man's wife's mother=mother-in-law; the man a woman is married to=husband; "
        "the woman a man is married to=wife; a male child=son; a female child=daughter; "
        "a child without parents=orphan; two children born together=twins; a woman whose husband died=widow; "
        "a man on his wedding day=groom; a woman on her wedding day=bride; a male parent=father; "
        "a female parent=mother",
    ),
    Pairs(
        "comparatives",
        'What is the comparative of "{0}"?',
        "This one is {0}, but that one is even",
        "small=smaller; fast=faster; big=bigger~biger~more big~biggest; good=better~gooder~more good~best; "
        "bad=worse~badder~more bad~worst; far=farther~farer~more far~farest; hot=hotter~hoter~more hot~hottest; "
        "happy=happier~happyer~more happy~happiest; easy=easier~easyer~more easy~easiest; "
        "thin=thinner~thiner~more thin~thinnest; tall=taller~tallier~more tall~tallest; "
        "heavy=heavier~heavyer~more heavy~heaviest; cheap=cheaper~cheapper~more cheap~cheapest; "
        "busy=busier~busyer~more busy~busiest; late=later~latter~more late~latest; "
        "strong=stronger~strongier~more strong~strongest; dark=darker~darkier~more dark~darkest; "
        "funny=funnier~funnyer~more funny~funniest; long=longer~longier~more long~longest; "
        "dry=drier~dryest~more dry~driest",
    ),
    Pairs(
        "science",
        "What {0}?",
        "Here is a simple question: what {0}? It is the",
        "planet do we live on=Earth; star gives us daylight=Sun; planet is the largest=Jupiter; "
        "planet is known for its rings=Saturn; planet is called the red planet=Mars; "
        "planet is closest to the Sun=Mercury; object circles the Earth=Moon; "
        "force pulls things to the ground=gravity; gas do we need to breathe=oxygen; "
        "gas do plants take in=carbon dioxide; process do plants use to make food=photosynthesis; "
        "is the solid form of water=ice; is water as a gas called=steam; is the center of an atom called=nucleus; "
        "organ pumps the blood=heart; instrument measures earthquakes=seismograph; "
        "is the hardest natural mineral=diamond; galaxy do we live in=Milky Way; "
        "is the study of living things called=biology; is the study of the stars called=astronomy; "
        "do we call molten rock from a volcano=lava; acid is found in lemons=citric acid; "
        "part of a plant is under the ground=root",
    ),
    Pairs(
        "people",
        "Who {0}?",
        "If you ask who {0}, the answer is",
        "discovered gravity=Isaac Newton; painted the Mona Lisa=Leonardo da Vinci; "
        "developed the theory of relativity=Albert Einstein; invented the telephone=Alexander Graham Bell; "
        "invented the light bulb=Thomas Edison; wrote the theory of evolution=Charles Darwin; "
        "was the first president of the United States=George Washington; led India to independence=Mahatma Gandhi; "
        "composed the Moonlight Sonata=Ludwig van Beethoven; painted the Sistine Chapel=Michelangelo; "
        "discovered penicillin=Alexander Fleming; discovered radium=Marie Curie; "
        "painted The Starry Night=Vincent van Gogh; first walked on the Moon=Neil Armstrong; "
        "sailed to America in 1492=Christopher Columbus; "
        "was the first president of South Africa after apartheid=Nelson Mandela; "
        "was the emperor of France in 1805=Napoleon Bonaparte; "
        "gave the speech 'I Have a Dream'=Martin Luther King Jr.; "
        "composed The Magic Flute=Wolfgang Amadeus Mozart; painted Guernica=Pablo Picasso; "
        "taught Alexander the Great=Aristotle; led Britain in the Second World War=Winston Churchill; "
        "freed the slaves in the American Civil War=Abraham Lincoln",
    ),
)
